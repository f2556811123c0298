"""Forward passes outside a Trainer, and hashes of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fer_lightning.core.progress import track

if TYPE_CHECKING:
    from fer_lightning.data.datamodule import Batch


class Pass:
    """Settings of a forward pass outside a Trainer, which computes the same digits as training.

    Args:
        device: name of the device.
        precision: the Trainer's precision, e.g. ``32-true``, ``64-true``, ``bf16-mixed``.
        channels_last: whether pictures and kernels are in this memory format.
    """

    def __init__(self, device: str, precision: str, channels_last: bool) -> None:
        self.device = torch.device(device)
        self.dtype = torch.float64 if precision.startswith("64") else torch.float32
        self.autocast = torch.bfloat16 if precision == "bf16-mixed" else None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.identity = {
            "device": self.device.type,
            "precision": precision,
            "channels_last": channels_last,
            "threads": torch.get_num_threads(),
        }

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device, dtype and memory format of this pass; return it."""
        return module.to(self.device, self.dtype).to(memory_format=self.memory_format)

    def run(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Call ``compute`` on a batch that is on the device, in this precision."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return compute(images)

    @torch.no_grad()
    def each(self, batches: Iterable[Batch], compute: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Yield the result of ``compute`` for every batch of pictures or embeddings, on the CPU."""
        for images, _ in batches:
            images = images.to(self.device, non_blocking=True)
            if images.ndim == 4:
                images = images.contiguous(memory_format=self.memory_format)
            yield self.run(compute, images).cpu()

    def over(self, loader: DataLoader[Batch], compute: Callable[[Tensor], Tensor], description: str) -> Tensor:
        """Call ``compute`` on every batch; return the results on the CPU, concatenated in the loader's order.

        Args:
            loader: batches of pictures or embeddings, and their labels.
            compute: from a batch to a tensor of as many rows.
            description: of the progress bar.
        """
        return torch.cat([result.to(self.dtype) for result in self.each(track(loader, description), compute)])


def state_hash(module: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers with their names."""
    return _hash(_state(module))


def fixed_hash(module: nn.Module, again: nn.Module) -> str:
    """Return the SHA-256 of the parameters and buffers that are equal in two modules, with their names.

    Args:
        module: a network.
        again: the same network, built under another seed; what is drawn at random differs and is left out.
    """
    other = _state(again)
    return _hash({name: value for name, value in _state(module).items() if torch.equal(value, other[name])})


def _state(module: nn.Module) -> dict[str, Tensor]:
    return dict(sorted([*module.named_parameters(), *module.named_buffers()]))


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""Activations that enter a backbone's last block, of whole parts of the data, kept on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import ABOUT, atomic_path, content_hash, home, locked, write_atomic
from fer_lightning.core.progress import Line
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.evaluation.embeddings import pictures_key
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.forward_pass import Pass, state_hash
from fer_lightning.models.last_block import Front

log = logging.getLogger(__name__)

_ACTIVATIONS = "activations.npy"


@dataclass(frozen=True)
class Shown:
    """Pictures whose activations are kept.

    Attributes:
        data: datamodule that holds the pictures.
        part: train, minival or test.
        view: augmented view, one of ``data.views``; None: the pictures as they are.
    """

    data: FaceDataModule
    part: str
    view: int | None = None

    def __str__(self) -> str:
        views = self.data.views
        if self.view is None or views is None:
            return self.part
        return f"{self.part}, view {self.view + 1} of {views.count}"

    @property
    def count(self) -> int:
        """Return the number of pictures."""
        return len(self.data.rows(self.part)[1])


class KeptActivations:
    """Activations that are computed once for their content: weights, pictures, view, device, precision, versions.

    Args:
        front: frozen part of a backbone, placed by ``forward_pass``.
        backbone: the backbone.
        forward_pass: device and precision; activations are kept in the dtype that they have in it.
    """

    def __init__(self, front: Front, backbone: Backbone, forward_pass: Pass) -> None:
        self.front = front.eval()
        self.backbone = backbone
        self.forward_pass = forward_pass
        self.weights = state_hash(front)

    def of(self, wanted: Sequence[Shown]) -> list[Tensor]:
        """Return the activations (N, ...) of each of these, in order; those that are missing are computed.

        A process that needs them while another one computes them waits.

        Raises:
            UserError: the disk has no space for those that are missing.
        """
        for number, shown in enumerate(wanted):
            entry = self._entry(shown)
            if not (entry / _ACTIVATIONS).exists():
                with locked(entry, "another run computes the activations that this one needs"):
                    if not (entry / _ACTIVATIONS).exists():
                        self._require_space(wanted[number:])
                        self._compute(shown, entry)
        return [self._mapped(self._entry(shown)) for shown in wanted]

    def _entry(self, shown: Shown) -> Path:
        front = {"front": [self.backbone.code, self.front.code, self.weights]}
        pictures = pictures_key(shown.data, shown.part, self.forward_pass, view=shown.view)
        return home() / "activations" / content_hash(front | pictures)[:32]

    def _require_space(self, wanted: Sequence[Shown]) -> None:
        """Refuse to begin what the disk cannot hold."""
        missing = {entry: shown for shown in wanted if not ((entry := self._entry(shown)) / _ACTIVATIONS).exists()}
        each = activation_bytes(self.front, self.forward_pass, wanted[0].data.side)
        needed = each * sum(shown.count for shown in missing.values())
        if (free := shutil.disk_usage(home()).free) < needed:
            raise UserError(
                f"stage: cached=true would keep {tqdm.format_sizeof(needed, 'B')} of activations in {home()}, and "
                f"{tqdm.format_sizeof(free, 'B')} are free; free some space, set FER_CACHE to a larger disk, "
                "or take fewer views, trainer.precision=bf16-mixed, or cached=false"
            )

    def _compute(self, shown: Shown, entry: Path) -> None:
        """Write an entry batch by batch; it is complete once the file of the activations has its name."""
        progress, done = Line(f"activations of {shown}"), 0
        sample = self._in_rows(_sample(self.front, self.forward_pass, shown.data.side))
        shape = (shown.count, *sample.shape[1:])
        size = f"{' x '.join(map(str, shape))}, {tqdm.format_sizeof(shown.count * sample.nbytes, 'B')}"
        log.info("activations of %s are computed and kept: %s", shown, size)
        write_atomic(entry / ABOUT, f"{shown}, {shown.data.store.meta.name}, {self.backbone.name}, {size}")
        on_gpu = self.forward_pass.device.type == "cuda"
        batches = shown.data.in_order(shown.part, view=shown.view, pinned=on_gpu)
        with atomic_path(entry / _ACTIVATIONS) as partial, partial.open("wb") as stream:
            # not a memory map, where a full disk would be a SIGBUS and no OSError
            header = {"descr": sample.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            progress(0, shown.count)
            for activations in self.forward_pass.each(batches, self.front):
                stream.write(self._in_rows(activations).tobytes())
                done += len(activations)
                progress(done, shown.count)

    @property
    def _channels_last(self) -> bool:
        return self.forward_pass.memory_format == torch.channels_last

    def _in_rows(self, activations: Tensor) -> npt.NDArray[Any]:
        """Return activations in the order and the type that they are kept in, of which NumPy has no bfloat16."""
        if activations.dtype == torch.bfloat16:
            activations = activations.view(torch.int16)
        if activations.ndim == 4 and self._channels_last:
            activations = activations.permute(0, 2, 3, 1)
        return activations.contiguous().numpy()

    def _mapped(self, entry: Path) -> Tensor:
        """Return kept activations, mapped into memory; the reverse of ``_in_rows``."""
        activations = torch.from_numpy(np.load(entry / _ACTIVATIONS, mmap_mode="c"))  # torch wants writable memory
        if activations.ndim == 4 and self._channels_last:
            activations = activations.permute(0, 3, 1, 2)
        return activations.view(torch.bfloat16) if activations.dtype == torch.int16 else activations


def activation_bytes(front: Front, forward_pass: Pass, side: int) -> int:
    """Return the number of bytes that are kept of a picture of this side, in pixels."""
    return _sample(front, forward_pass, side).nbytes


def _sample(front: Front, forward_pass: Pass, side: int) -> Tensor:
    """Return the activations of one black picture."""
    picture = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=forward_pass.device)
    with torch.no_grad():
        return forward_pass.run(front, picture).cpu()

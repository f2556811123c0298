"""Embeddings of a whole part of the data: the frozen backbone's, kept on disk, and class means of a network's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fer_lightning.cache import ABOUT, atomic_path, content_hash, home, locked, write_atomic
from fer_lightning.core.versions import versions
from fer_lightning.data.datamodule import Batch, FaceDataModule, as_it_is
from fer_lightning.data.samplers import Pick, Views
from fer_lightning.models.backbone import Backbone
from fer_lightning.progress import track

_EMBEDDINGS = "embeddings.npy"


class Pass:
    """How a forward pass outside a Trainer is computed, so that it gives the digits that training would see.

    Args:
        device: where.
        precision: the Trainer's precision, e.g. ``32-true``, ``64-true``, ``bf16-mixed``.
        channels_last: the memory format of pictures and kernels.
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
        """Move a module to the device, dtype and memory format of this pass."""
        return module.to(self.device, self.dtype).to(memory_format=self.memory_format)

    def run(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """``compute`` of one batch that lies on the device, in this precision."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return compute(images)

    @torch.no_grad()
    def over(self, loader: DataLoader[Batch], compute: Callable[[Tensor], Tensor], what: str) -> Tensor:
        """``compute`` of every batch, concatenated on the CPU in the loader's order."""
        results = []
        for images, _ in track(loader, what):
            images = images.to(self.device, non_blocking=True)
            if images.ndim == 4:
                images = images.contiguous(memory_format=self.memory_format)
            results.append(self.run(compute, images).to(self.dtype).cpu())
        return torch.cat(results)


def state_hash(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name."""
    return _hash(_state(module))


def fixed_hash(module: nn.Module, again: nn.Module) -> str:
    """SHA-256 of the parameters and buffers that are equal in two modules of one making, by name.

    Made under two seeds, they tell what a network starts from apart from what is drawn in it.
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


def embeddings_key(
    backbone: Backbone,
    data: FaceDataModule,
    part: str,
    how: Pass,
    *,
    mirrored: bool = False,
    view: int | None = None,
) -> str:
    """Hash of all that decides a part's embeddings; arguments as for ``backbone_embeddings``."""
    _, rows = data.rows(part)
    views = data.views
    return content_hash(
        {
            "backbone": [backbone.code, state_hash(backbone)],
            "faces": [data.store.hash, part, hashlib.sha256(rows.tobytes()).hexdigest()],
            "seen": [
                data.side,
                mirrored,
                None if view is None or views is None else [view, views.seed, views.code],
            ],
            "how": how.identity,
            "versions": versions(),
        }
    )


def backbone_embeddings(
    backbone: Backbone,
    data: FaceDataModule,
    part: str,
    how: Pass,
    *,
    keep: bool,
    mirrored: bool = False,
    view: int | None = None,
) -> Tensor:
    """Embeddings (N, D) of a part's pictures, in order, by a backbone in eval mode.

    Kept ones are looked up by content: weights, store, rows, view and the way of computing. They are mapped into
    memory; whoever wants them while another process computes them waits.

    Args:
        backbone: as it is now.
        data: the part's pictures.
        part: train, minival or test.
        how: device and precision.
        keep: whether to find or else store them: for weights that other cells will start from too.
        mirrored: of the pictures' mirror images.
        view: of this augmented view of them, one of ``data.views``; None: as they are.
    """
    placed = how.place(backbone)
    name = part if view is None or data.views is None else f"{part}, view {view + 1} of {data.views.count}"

    def compute() -> Tensor:
        was_training = backbone.training
        placed.eval()
        batches = data.in_order(part, view=view, pinned=how.device.type == "cuda")
        embed = (lambda images: placed(images.flip(3))) if mirrored else placed
        embeddings = how.over(batches, embed, f"embedding {name}")
        backbone.train(was_training)
        return embeddings

    if not keep:
        return compute()
    key = embeddings_key(backbone, data, part, how, mirrored=mirrored, view=view)
    entry = home() / "embeddings" / key[:32]
    with locked(entry, "another cell computes the embeddings that this one needs"):
        if not (entry / _EMBEDDINGS).exists():
            about = f"{name}{', mirrored' if mirrored else ''}, {data.store.meta.name}, {backbone.name}"
            _keep(entry, compute(), about)
        return torch.from_numpy(np.load(entry / _EMBEDDINGS, mmap_mode="c"))  # torch wants writable memory


def _keep(entry: Path, embeddings: Tensor, about: str) -> None:
    """Write an entry; it is there once its embeddings are, which come last."""
    n, width = embeddings.shape
    write_atomic(entry / ABOUT, f"{about}, {n} x {width}")
    with atomic_path(entry / _EMBEDDINGS) as partial, partial.open("wb") as stream:
        np.save(stream, embeddings.numpy())


class EmbeddingDataset(Dataset[Batch]):
    """Embeddings with their labels (N,), as FaceDataset gives pictures.

    Args:
        embeddings: (N, D), of each view; of an index the first is given.
        labels: class indices (N,), or soft labels (N, C).
        views: which of them an epoch shows; None: the first.
    """

    def __init__(self, embeddings: Sequence[Tensor], labels: Tensor, views: Views | None = None) -> None:
        self.embeddings = embeddings
        self.labels = labels
        self.views = views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: int | Pick) -> Batch:
        embeddings, labels = self.__getitems__([item])
        return embeddings[0], labels[0]

    def __getitems__(self, items: Sequence[int | Pick]) -> Batch:
        """A batch; torch's DataLoader asks for it by this name."""
        rows = [item.picture if isinstance(item, Pick) else item for item in items]
        if self.views is None:
            return self.embeddings[0][rows], self.labels[rows]
        numbers = [self.views.of(item).epoch if isinstance(item, Pick) else 0 for item in items]
        shown = [self.embeddings[number][row] for number, row in zip(numbers, rows, strict=True)]
        return torch.stack(shown), self.labels[rows]


class EmbeddingDataModule(FaceDataModule):
    """The batches of another datamodule, with the backbone's embeddings in place of its pictures.

    Args:
        faces: whose rows, order, views and batches are used.
        embeddings: of ``train`` each view; of ``minival``, and of ``test`` where it is watched, the pictures as
            they are.
    """

    def __init__(self, faces: FaceDataModule, embeddings: dict[str, Sequence[Tensor]]) -> None:
        super().__init__(
            faces.store,
            batch_size=faces.batch_size,
            minival=faces.minival_share,
            split_seed=faces.split_seed,
            workers=0,
            soft_labels=faces.soft_labels,
            draw=faces.draw,
            augment=None,
            seed=faces.seed,
        )
        self.views = faces.views
        self.watch_test = faces.watch_test
        self.embeddings = embeddings

    def dataset(self, part: str, *, training: bool = False) -> Dataset[Batch]:
        """Embeddings of a part."""
        labels = self.targets(part, training=training)
        return EmbeddingDataset(self.embeddings[part], labels, self.views if training else None)


def class_means(embeddings: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Means (C, D) of embeddings (N, D) by class, summed in float64.

    Raises:
        ValueError: a class has no embedding.
    """
    counts = torch.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no embedding to take the mean of")
    sums = torch.zeros(classes, embeddings.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, embeddings.double())
    return (sums / counts.unsqueeze(1)).to(embeddings.dtype)


def apply(compute: Callable[[Tensor], Tensor], embeddings: Tensor, how: Pass, what: str) -> Tensor:
    """``compute`` of embeddings (N, D), in large batches."""
    dataset = EmbeddingDataset([embeddings], torch.zeros(len(embeddings)))
    return how.over(DataLoader(dataset, batch_size=4096, collate_fn=as_it_is), compute, what)


def through(neck: nn.Module, embeddings: Tensor, how: Pass) -> Tensor:
    """The embeddings (N, D) behind a neck, of a backbone's embeddings (N, num_features)."""
    was_training = neck.training
    results = apply(how.place(neck).eval(), embeddings, how, "through the neck")
    neck.train(was_training)
    return results


def center_drift(centers: Tensor, means: Tensor, grand_mean: Tensor) -> Tensor:
    """By class ||c_k - m_k|| / ||m_k - m|| (C,): how far a center is from its class mean, relative to the classes.

    Args:
        centers: c (C, D).
        means: class means m_k (C, D).
        grand_mean: m (D,), the mean of all embeddings.
    """
    norm = torch.linalg.vector_norm
    drift: Tensor = norm(centers - means, dim=1) / norm(means - grand_mean, dim=1)
    return drift

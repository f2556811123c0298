"""Batches from a prepared store: the training part, the minival carved from it, and the test set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from fer_lightning.contracts import ClassStats
from fer_lightning.data.samplers import Draw, GlobalBatches, Pick
from fer_lightning.data.split import minival as carve_minival
from fer_lightning.data.store import Store, StoreSplit
from fer_lightning.data.transforms import Augmentation

Batch = tuple[Tensor, Tensor]


class FaceDataset(Dataset[Batch]):
    """Rows of a store as (uint8 picture (3, H, W), class index); augmented when asked for a Pick."""

    def __init__(
        self, faces: StoreSplit, rows: npt.NDArray[np.int64], augment: Augmentation | None = None, seed: int = 0
    ) -> None:
        self.faces = faces
        self.rows = rows
        self.labels = torch.from_numpy(faces.labels[rows])
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Pick) -> Batch:
        index = item.picture if isinstance(item, Pick) else item
        image = self.faces.image(int(self.rows[index]))
        if self.augment is not None and isinstance(item, Pick):
            image = self.augment(image, np.random.SeedSequence([self.seed, item.epoch, index, item.showing]))
        return torch.tensor(image).permute(2, 0, 1), self.labels[index]


class FaceDataModule(LightningDataModule):
    """Loaders over a store.

    Args:
        store: the prepared faces.
        batch_size: global, over all ranks; evaluation uses the same.
        minival: the share of the training images held out to choose checkpoints by.
        split_seed: of that choice; fixed over a table, independent of the cell's seed.
        workers: loader processes a rank; None: a core each, at most 8, none where there are two cores or less.
        draw: which pictures an epoch shows.
        augment: of the training pictures.
        seed: of order and augmentation.

    Attributes:
        class_stats: counts of the training part, minival excluded.

    Raises:
        ValueError: minival is outside (0, 1), batch_size does not fit.
    """

    def __init__(
        self,
        store: Store,
        *,
        batch_size: int,
        minival: float,
        split_seed: int,
        workers: int | None = None,
        draw: Draw,
        augment: Augmentation | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.store = store
        self.batch_size = batch_size
        self.minival_share = minival
        self.split_seed = split_seed
        self.draw = draw
        self.augment = augment
        self.seed = seed
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = (0 if cores <= 2 else min(cores - 1, 8)) if workers is None else workers
        faces = store.split("train")
        held_out = carve_minival(faces.labels, faces.groups, minival, split_seed)
        self.train_rows = np.flatnonzero(~held_out)
        self.minival_rows = np.flatnonzero(held_out)
        counts = np.bincount(faces.labels[self.train_rows], minlength=len(store.classes))
        self.class_stats = ClassStats(tuple(store.classes), tuple(int(n) for n in counts))

    @property
    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: Dataset[Batch], **order: Any) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            **order,
        )

    def dataset(self, part: str, *, training: bool = False) -> Dataset[Batch]:
        """All pictures of ``train`` (minival excluded), ``minival`` or ``test``, in order.

        They are augmented where ``training`` is said.
        """
        faces, rows = self.rows(part)
        return FaceDataset(faces, rows, self.augment if training else None, self.seed)

    def rows(self, part: str) -> tuple[StoreSplit, npt.NDArray[np.int64]]:
        """Where a part's pictures lie: a split of the store, and row numbers in it."""
        if part == "test":
            test = self.store.split("test")
            return test, np.arange(len(test))
        return self.store.split("train"), {"train": self.train_rows, "minival": self.minival_rows}[part]

    def labels(self, part: str) -> npt.NDArray[np.int64]:
        """Class indices of a part's pictures, in order."""
        faces, rows = self.rows(part)
        return faces.labels[rows]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented, this rank's slice of each global batch."""
        rank, ranks = self._rank
        epochs = (self.trainer.max_epochs or 1) if self.trainer else 1
        labels = self.labels("train")
        batches = GlobalBatches(labels, self.draw, self.batch_size, self.seed, rank, ranks, epochs)
        return self._loader(self.dataset("train", training=True), batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The minival; each rank every ranks-th picture, none twice."""
        rank, ranks = self._rank
        mine = range(rank, len(self.minival_rows), ranks)
        return self._loader(Subset(self.dataset("minival"), mine), batch_size=self.batch_size)

    def in_order(self, part: str) -> DataLoader[Batch]:
        """Batches of a part for passes outside a Trainer: every picture once, on one device."""
        return self._loader(self.dataset(part), batch_size=self.batch_size)

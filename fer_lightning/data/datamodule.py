"""Batches from a prepared store: the training part, the minival carved from it, and the test set."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import Count, InnerShare, Natural, Seed
from fer_lightning.data.samplers import Draw, GlobalBatches, Pick, Views
from fer_lightning.data.split import minival as carve_minival
from fer_lightning.data.store.store import Store, StoreSplit
from fer_lightning.data.store.workers import cores
from fer_lightning.data.transforms import Augmentation, middle

Batch = tuple[Tensor, Tensor]


class FaceDataset(Dataset[Batch]):
    """Rows of a store as (uint8 pictures (N, 3, C, C) in channels-last memory, labels).

    A whole batch is asked for at once and filled in place: give its loader ``collate_fn=as_it_is``.

    Args:
        faces: the pictures.
        rows: which of them.
        labels: class indices (N,) of these rows, or soft labels (N, classes).
        side: C, of the square in the pictures' middle that is seen, in pixels.
        augment: of what is asked for by a Pick; an index shows the middle as it is.
        seed: of the augmentation.
        views: None: every epoch augments anew.
    """

    def __init__(
        self,
        faces: StoreSplit,
        rows: npt.NDArray[np.int64],
        labels: Tensor,
        side: int,
        augment: Augmentation | None = None,
        seed: int = 0,
        views: Views | None = None,
    ) -> None:
        self.faces = faces
        self.rows = rows
        self.labels = labels
        self.side = side
        self.augment = augment
        self.seed = seed if views is None else views.seed
        self.views = views
        self.draws = Draws()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Pick) -> Batch:
        images, labels = self.__getitems__([item])
        return images[0], labels[0]

    def __getitems__(self, items: Sequence[int | Pick]) -> Batch:
        """A batch; torch's DataLoader asks for it by this name."""
        images = np.empty((len(items), self.side, self.side, 3), np.uint8)
        indices = [item.picture if isinstance(item, Pick) else item for item in items]
        for index, item, out in zip(indices, items, images, strict=True):
            image = self.faces.image(int(self.rows[index]))
            if self.augment is not None and isinstance(item, Pick):
                shown = item if self.views is None else self.views.of(item)
                self.augment(image, self.draws.of(self.seed, shown), out)
            else:
                out[...] = middle(image, self.side)
        return torch.from_numpy(images).permute(0, 3, 1, 2), self.labels[indices]


class Draws:
    """Random numbers that depend on seed, epoch, picture and showing alone.

    One counter-based generator that is put to where a picture's numbers begin: to make a generator for each
    picture takes as long as a tenth of its warp.
    """

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.Philox(0))
        self._state = self._generator.bit_generator.state

    def of(self, seed: int, pick: Pick) -> np.random.Generator:
        """A generator for one showing of a picture, good until the next call."""
        self._state["state"]["key"][:] = seed, pick.epoch
        self._state["state"]["counter"][:] = 0, pick.picture, pick.showing, 0  # the first counts the numbers
        self._generator.bit_generator.state = self._state  # nothing is left over from the picture before
        return self._generator


def as_it_is(batch: Any) -> Any:
    """Collates nothing: for data sets that give whole batches."""
    return batch


def start_worker(_: int) -> None:
    """Set a loader process up: torch keeps it to one thread of its own, this keeps OpenCV to one."""
    cv2.setNumThreads(1)


def workers_by_default(cores: int, ranks: int) -> int:
    """Loader processes of a rank: its share of the machine's cores but one, at most 8; none on two cores."""
    return 0 if cores <= 2 else min(max(cores // ranks - 1, 0), 8)


class FaceDataModule(LightningDataModule):
    """Loaders over a store.

    Args:
        store: the prepared faces.
        batch_size: global, over all ranks; evaluation uses the same.
        minival: the share of the training images held out to choose checkpoints by.
        split_seed: of that choice; fixed over a table, independent of the run's seed.
        workers: loader processes a rank; None: see ``workers_by_default``.
        crop: side of the square in the pictures' middle that the network sees, in pixels; None: all of them.
        soft_labels: whether training pictures are labelled with the shares of their annotators' votes.
        flip_averaging: whether a test's logits are the mean over each picture and its mirror image.
        draw: which pictures an epoch shows.
        augment: of the training pictures.
        seed: of order and augmentation.

    Attributes:
        images: of the training part by class (C,), minival excluded.
        class_stats: the same as the losses see it: with soft labels, the sums of the shares, rounded.
        side: of what the network sees, in pixels.
        views: of the training pictures; None: every epoch augments anew.
        watch_test: whether the test set is looked at after every epoch, to tell what choosing by it would have
            seemed to be worth. Nothing is chosen by it.

    Raises:
        ValueError: minival is outside (0, 1), batch_size does not fit, crop is larger than the pictures, the set
            has no votes for soft_labels.
    """

    def __init__(
        self,
        store: Store,
        *,
        batch_size: Count,
        minival: InnerShare,
        split_seed: Seed,
        workers: Natural | None = None,
        crop: Count | None = None,
        soft_labels: bool = False,
        flip_averaging: bool = False,
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
        self.views: Views | None = None
        self.watch_test = False
        self.seed = seed
        self.workers = workers
        self.soft_labels = soft_labels
        self.flip_averaging = flip_averaging
        faces = store.split("train")
        self.side = faces.size if crop is None else crop
        if not 1 <= self.side <= faces.size:
            raise ValueError(f"crop={crop} must be 1 to size={faces.size}, the side of the kept pictures")
        held_out = carve_minival(faces.labels, faces.groups, minival, split_seed)
        self.train_rows = np.flatnonzero(~held_out)
        self.minival_rows = np.flatnonzero(held_out)
        self.images = np.bincount(faces.labels[self.train_rows], minlength=len(store.classes))
        counts = self.targets("train", training=True).sum(0) if soft_labels else self.images
        self.class_stats = ClassStats(tuple(store.classes), tuple(round(float(n)) for n in counts))

    def seen_by_a_frozen_backbone(self, views: Views | None) -> FaceDataModule:
        """The same data, its training pictures in these views; None: as they are."""
        other = copy(self)
        other.augment = None if views is None else self.augment
        other.views = views
        return other

    @property
    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: Dataset[Batch], *, ranks: int, pinned: bool, **order: Any) -> DataLoader[Batch]:
        cv2.setNumThreads(1)  # a process that is forked while OpenCV has threads waits for them for ever
        workers = workers_by_default(cores(), ranks) if self.workers is None else self.workers
        return DataLoader(
            dataset,
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=start_worker,
            pin_memory=pinned,
            **order,
        )

    def _in_training(self, dataset: Dataset[Batch], **order: Any) -> DataLoader[Batch]:
        """A loader for the Trainer, beside those of this machine's other ranks."""
        if self.trainer is None:
            return self._loader(dataset, ranks=1, pinned=False, **order)
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        return self._loader(dataset, ranks=self.trainer.num_devices, pinned=on_gpu, **order)

    def dataset(self, part: str, *, training: bool = False) -> Dataset[Batch]:
        """All pictures of ``train`` (minival excluded), ``minival`` or ``test``, in order.

        They are augmented where ``training`` is said.
        """
        faces, rows = self.rows(part)
        labels = self.targets(part, training=training)
        augment = self.augment if training else None
        return FaceDataset(faces, rows, labels, self.side, augment, self.seed, self.views)

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

    def ids(self, part: str) -> list[str]:
        """The manifest's ids of a part's pictures, in order."""
        faces, rows = self.rows(part)
        return [faces.ids[row] for row in rows]

    def targets(self, part: str, *, training: bool) -> Tensor:
        """What a part's pictures are to be taken for: class indices (N,), or for training soft labels (N, C).

        Raises:
            ValueError: soft labels are wanted, and there are none.
        """
        faces, rows = self.rows(part)
        if training and self.soft_labels:
            if faces.votes is None:
                raise ValueError("soft_labels=true, but this data set has no annotators' votes; ferplus has")
            return torch.from_numpy(faces.votes[rows])
        return torch.from_numpy(faces.labels[rows])

    def batches(self) -> GlobalBatches:
        """This rank's slice of each global batch, in the micro-batches that a step is taken in."""
        rank, ranks = self._rank
        epochs = (self.trainer.max_epochs or 1) if self.trainer else 1
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        labels = self.labels("train")
        return GlobalBatches(labels, self.draw, self.batch_size, self.seed, rank, ranks, epochs, accumulate)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented, in ``batches``."""
        return self._in_training(self.dataset("train", training=True), batch_sampler=self.batches())

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """The minival and, where it is watched, the test set; each rank every ranks-th picture, none twice."""
        rank, ranks = self._rank
        loaders = []
        for part in ("minival", "test") if self.watch_test else ("minival",):
            dataset, mine = self.dataset(part), range(rank, len(self.rows(part)[1]), ranks)
            loaders.append(self._in_training(Subset(dataset, mine), batch_size=self.batch_size))
        return loaders

    def in_order(self, part: str, *, view: int | None = None, pinned: bool = False) -> DataLoader[Batch]:
        """Batches of a part for passes outside a Trainer: every picture once, as it is or in one of its views.

        Args:
            part: train, minival or test.
            view: number of the view; None: as it is.
            pinned: for one GPU.
        """
        if view is None:
            return self._loader(self.dataset(part), ranks=1, pinned=pinned, batch_size=self.batch_size)
        dataset = self.dataset(part, training=True)
        picks = [Pick(picture, view, 0) for picture in range(len(self.rows(part)[1]))]
        return self._loader(dataset, ranks=1, pinned=pinned, batch_size=self.batch_size, sampler=picks)

"""Batches from a prepared store: the training part, the minival carved from it, and the test set."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from multiprocessing import parent_process
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.processes import end_with_parent
from fer_lightning.data.options import BatchOptions
from fer_lightning.data.samplers import Draw, GlobalBatches, Pick, Views
from fer_lightning.data.split import minival as carve_minival
from fer_lightning.data.store.store import Store, StoreSplit
from fer_lightning.data.store.workers import cores
from fer_lightning.data.transforms import Augmentation, middle

Batch = tuple[Tensor, Tensor]

_MOST_WORKERS = 8


class FaceDataset(Dataset[Batch]):
    """Rows of a store as uint8 pictures (N, 3, C, C) in channels-last memory, with their labels.

    A whole batch is asked for at once and filled in place: give its loader ``collate_fn=as_it_is``.

    Args:
        faces: The pictures.
        rows: Row numbers (N,) of the pictures in ``faces``.
        labels: Class indices (N,) of these rows, or soft labels (N, classes).
        side: Side C of the square in the pictures' middle that is shown, in pixels.
        augment: Augmentation of pictures that are asked for by a Pick; an index shows the middle as it is.
        seed: Seed of the augmentation.
        views: The fixed views that epochs show in turn; None: every epoch augments anew.
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
        """Return a batch; torch's DataLoader asks for it by this name."""
        images = np.empty((len(items), self.side, self.side, 3), np.uint8)
        indices = [item.picture if isinstance(item, Pick) else item for item in items]
        for index, item, out in zip(indices, items, images, strict=True):
            image = self.faces.image(int(self.rows[index]))
            if self.augment is not None and isinstance(item, Pick):
                pick = item if self.views is None else self.views.of(item)
                self.augment(image, self.draws.of(self.seed, pick), out)
            else:
                out[...] = middle(image, self.side)
        return torch.from_numpy(images).permute(0, 3, 1, 2), self.labels[indices]


class Draws:
    """Random numbers that depend on seed, epoch, picture and showing alone.

    One counter-based generator is set to where a picture's numbers begin: to make a generator for each picture
    takes a tenth as long as its warp.
    """

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.Philox(0))
        self._state = self._generator.bit_generator.state

    def of(self, seed: int, pick: Pick) -> np.random.Generator:
        """Return the generator for one showing of a picture; it is good until the next call."""
        self._state["state"]["key"][:] = seed, pick.epoch
        self._state["state"]["counter"][:] = 0, pick.picture, pick.showing, 0  # the first counts the numbers
        self._generator.bit_generator.state = self._state  # nothing is left over from the picture before
        return self._generator


def as_it_is(batch: Any) -> Any:
    """Collate nothing, for data sets that return whole batches."""
    return batch


def start_worker(_: int) -> None:
    """Keep OpenCV to one thread in a loader process, as torch keeps itself, and end with the parent."""
    cv2.setNumThreads(1)
    if (parent := parent_process()) and parent.pid:
        end_with_parent(parent.pid)


def workers_by_default(cores: int, ranks: int) -> int:
    """Return the number of loader processes of a rank.

    It is the rank's share of the machine's cores less one, at most 8, and none on two cores. They are kept from
    epoch to epoch.
    """
    return 0 if cores <= 2 else min(max(cores // ranks - 1, 0), _MOST_WORKERS)


def workers_beside(training: int, cores: int, ranks: int) -> int:
    """Return the number of loader processes of a rank for its evaluation, beside those that stay for training.

    It is what the latter leave of the rank's share of the machine's cores less one, at most 8; with none, the rank
    loads the pictures itself.
    """
    return min(max(cores // ranks - 1 - training, 0), _MOST_WORKERS)


class FaceDataModule(LightningDataModule):
    """Loaders over a store.

    Args:
        store: The prepared faces.
        options: Batch size, minival, and what is seen of the pictures.
        draw: Sampler that chooses the pictures of an epoch.
        augment: Augmentation of the training pictures; None: they are shown as they are.
        seed: Seed of order and augmentation.

    Attributes:
        images: Number of training pictures by class (C,), without the minival.
        class_stats: The same as the losses see it: with soft labels, the sums of the shares, rounded.
        side: Side of the square that the network sees, in pixels.
        views: Views of the training pictures; None: every epoch augments anew.
        watch_test: Whether the test set is looked at after every epoch, to tell what choosing by it would have
            seemed to be worth. Nothing is chosen by it.

    Raises:
        ValueError: The crop is larger than the pictures, or the set has no votes for soft labels.
    """

    def __init__(
        self, store: Store, options: BatchOptions, *, draw: Draw, augment: Augmentation | None, seed: int
    ) -> None:
        super().__init__()
        self.store = store
        self.options = options
        self.draw = draw
        self.augment = augment
        self.views: Views | None = None
        self.watch_test = False
        self.seed = seed
        faces = store.split("train")
        self.side = options.crop or faces.size
        if self.side > faces.size:
            raise ValueError(f"crop={self.side} must be 1 to size={faces.size}, the side of the kept pictures")
        held_out = carve_minival(faces.labels, faces.groups, options.minival, options.split_seed)
        self.train_rows = np.flatnonzero(~held_out)
        self.minival_rows = np.flatnonzero(held_out)
        self.images = np.bincount(faces.labels[self.train_rows], minlength=len(store.classes))
        soft = options.soft_labels and len(faces) > 0
        counts = self.targets("train", training=True).sum(0) if soft else self.images
        self.class_stats = ClassStats(tuple(store.classes), tuple(round(float(n)) for n in counts))

    def shown_in(self, views: Views | None) -> FaceDataModule:
        """Return the same data with the training pictures in these views, or as they are where they are None."""
        other = copy(self)
        other.augment = None if views is None else self.augment
        other.views = views
        return other

    @property
    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self,
        dataset: Dataset[Batch],
        *,
        ranks: int,
        pinned: bool,
        kept: bool = False,
        beside: int = 0,
        **order: Any,
    ) -> DataLoader[Batch]:
        """Return a loader whose processes end with each pass, unless they are ``kept``."""
        cv2.setNumThreads(1)  # a process that is forked while OpenCV has threads waits for them for ever
        workers = self._workers(ranks)
        if beside and self.options.workers is None:
            workers = workers_beside(beside, cores(), ranks)
        return DataLoader(
            dataset,
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=kept and workers > 0,
            worker_init_fn=start_worker,
            pin_memory=pinned,
            **order,
        )

    def _workers(self, ranks: int) -> int:
        workers = self.options.workers
        return workers_by_default(cores(), ranks) if workers is None else workers

    def _in_training(self, dataset: Dataset[Batch], *, kept: bool, **order: Any) -> DataLoader[Batch]:
        """Return a loader for the Trainer, beside those of this machine's other ranks.

        Args:
            dataset: The pictures.
            kept: Whether it is the loader of the training part, whose processes stay; the others run beside them.
            order: Further arguments of the loader.
        """
        ranks = self.trainer.num_devices if self.trainer else 1
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        beside = 0 if kept else self._workers(ranks)
        return self._loader(dataset, ranks=ranks, pinned=on_gpu, kept=kept, beside=beside, **order)

    def dataset(self, part: str, *, training: bool = False) -> Dataset[Batch]:
        """Return all pictures of ``train`` (without the minival), ``minival`` or ``test``, in order.

        They are augmented where ``training`` is true.
        """
        faces, rows = self.rows(part)
        labels = self.targets(part, training=training)
        augment = self.augment if training else None
        return FaceDataset(faces, rows, labels, self.side, augment, self.seed, self.views)

    def rows(self, part: str) -> tuple[StoreSplit, npt.NDArray[np.int64]]:
        """Return the split of the store that a part's pictures lie in, and their row numbers in it."""
        if part == "test":
            test = self.store.split("test")
            return test, np.arange(len(test))
        return self.store.split("train"), {"train": self.train_rows, "minival": self.minival_rows}[part]

    def labels(self, part: str) -> npt.NDArray[np.int64]:
        """Return the class indices (N,) of a part's pictures, in order."""
        faces, rows = self.rows(part)
        return faces.labels[rows]

    def ids(self, part: str) -> list[str]:
        """Return the manifest's ids of a part's pictures, in order."""
        faces, rows = self.rows(part)
        return [faces.ids[row] for row in rows]

    def targets(self, part: str, *, training: bool) -> Tensor:
        """Return the labels of a part's pictures: class indices (N,), or for training soft labels (N, C).

        Raises:
            ValueError: Soft labels are wanted, and there are none.
        """
        faces, rows = self.rows(part)
        if training and self.options.soft_labels:
            if faces.votes is None:
                raise ValueError("soft_labels=true, but this data set has no annotators' votes; ferplus has")
            return torch.from_numpy(faces.votes[rows])
        return torch.from_numpy(faces.labels[rows])

    def batches(self) -> GlobalBatches:
        """Return this rank's slice of each global batch, in the micro-batches that a step is taken in."""
        rank, ranks = self._rank
        epochs = (self.trainer.max_epochs or 1) if self.trainer else 1
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        labels = self.labels("train")
        return GlobalBatches(
            labels, self.draw, self.options.batch_size, self.seed, rank, ranks, epochs, accumulate
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training part: augmented, in ``batches``."""
        return self._in_training(self.dataset("train", training=True), kept=True, batch_sampler=self.batches())

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of the minival and, where it is watched, of the test set.

        Each rank takes every ranks-th picture, and none is taken twice.
        """
        rank, ranks = self._rank
        loaders = []
        for part in ("minival", "test") if self.watch_test else ("minival",):
            indices = range(rank, len(self.rows(part)[1]), ranks)
            dataset = Subset(self.dataset(part), indices)
            loaders.append(self._in_training(dataset, kept=False, batch_size=self.options.batch_size))
        return loaders

    def in_order(self, part: str, *, view: int | None = None, pinned: bool = False) -> DataLoader[Batch]:
        """Return the batches of a part for passes outside a Trainer, with every picture once.

        Args:
            part: ``train``, ``minival`` or ``test``.
            view: Number of the view that is shown of the pictures; None: they are shown as they are.
            pinned: Whether batches are put into pinned memory, for a GPU.
        """
        if view is None:
            return self._loader(self.dataset(part), ranks=1, pinned=pinned, batch_size=self.options.batch_size)
        dataset = self.dataset(part, training=True)
        picks = [Pick(picture, view, 0) for picture in range(len(self.rows(part)[1]))]
        return self._loader(dataset, ranks=1, pinned=pinned, batch_size=self.options.batch_size, sampler=picks)

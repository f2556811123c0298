"""Batches of a frozen backbone's embeddings in place of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fer_lightning.data.datamodule import Batch, FaceDataModule
from fer_lightning.data.samplers import Pick, Views


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
        options = faces.options.model_copy(update={"workers": 0})
        super().__init__(faces.store, options, draw=faces.draw, augment=None, seed=faces.seed)
        self.views = faces.views
        self.watch_test = faces.watch_test
        self.embeddings = embeddings

    def dataset(self, part: str, *, training: bool = False) -> Dataset[Batch]:
        """Embeddings of a part."""
        labels = self.targets(part, training=training)
        return EmbeddingDataset(self.embeddings[part], labels, self.views if training else None)

"""Batches of what a frozen backbone, or its frozen part, has computed of the pictures, instead of pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset

from fer_lightning.data.datamodule import Batch, FaceDataModule
from fer_lightning.data.samplers import Pick, Views


class EmbeddingDataset(Dataset[Batch]):
    """Embeddings with their labels; the counterpart of FaceDataset.

    Args:
        embeddings: embeddings (N, D), or activations (N, ...), of each view of the pictures; an item without an
            epoch gets the first view.
        labels: class indices (N,), or soft labels (N, C).
        views: the choice of each epoch's view; None always takes the first.
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
        """Return a batch; torch's DataLoader calls this method by its name."""
        rows = [item.picture if isinstance(item, Pick) else item for item in items]
        if self.views is None:
            return self.embeddings[0][rows], self.labels[rows]
        views = [self.views.of(item).epoch if isinstance(item, Pick) else 0 for item in items]
        batch = self.embeddings[views[0]][rows]
        for index, (view, row) in enumerate(zip(views, rows, strict=True)):
            if view != views[0]:  # a picture that this epoch shows again
                batch[index] = self.embeddings[view][row]
        return batch, self.labels[rows]


class EmbeddingDataModule(FaceDataModule):
    """The batches of another datamodule, with the backbone's embeddings or activations instead of its pictures.

    Args:
        faces: the datamodule whose rows, order, views and batches are used.
        embeddings: embeddings by part: of each view for ``train``, and of the unaugmented pictures for ``minival``
            and, if it is watched, ``test``.
    """

    def __init__(self, faces: FaceDataModule, embeddings: dict[str, Sequence[Tensor]]) -> None:
        options = faces.options.model_copy(update={"workers": 0})
        super().__init__(faces.store, options, draw=faces.draw, augment=None, seed=faces.seed)
        self.views = faces.views
        self.watch_test = faces.watch_test
        self.embeddings = embeddings

    def dataset(self, part: str, *, training: bool = False) -> Dataset[Batch]:
        """Return the embeddings of a part, in their views if ``training``."""
        labels = self.targets(part, training=training)
        return EmbeddingDataset(self.embeddings[part], labels, self.views if training else None)

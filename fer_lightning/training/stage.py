"""Stage of a run: one fit with its own optimizer, which starts from the weights of the stage before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fer_lightning.core.ranges import Count, Natural, Positive, Seed
from fer_lightning.models.freeze import BatchNorm


@dataclass(frozen=True)
class Stage:
    """Options of a stage.

    Args:
        epochs: number of epochs.
        pretrained: whether the backbone starts from pre-trained weights, or from random ones.
        freeze: frozen part of the backbone, see models/freeze.py: none, all, the name of a block, or -n.
        batch_norm: training of BatchNorm, see models/freeze.py: ``with_block``, ``only`` or ``never``.
        loss: ``configured``: the loss of the run; ``softmax``: softmax, whatever that is.
        lr_scale: factor of optimizer.lr.
        cached: for a frozen backbone, whether to compute its embeddings once and keep them, or to run it in every
            epoch. Both train the same neck and head.
        views: for a frozen backbone, number of augmented views of each picture, of which each epoch shows one in
            turn; 0: the picture as it is.
        views_seed: seed of their augmentation. It is not the seed of the run, so that runs of all seeds share
            embeddings.

    Raises:
        ValueError: views or cached are given for a stage whose backbone is not frozen.
    """

    epochs: Count
    pretrained: bool
    freeze: str | int
    batch_norm: BatchNorm
    loss: Literal["configured", "softmax"]
    lr_scale: Positive
    cached: bool = True
    views: Natural = 0
    views_seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.frozen and (self.views or not self.cached):
            raise ValueError(f"views and cached are for freeze=all, and this stage has freeze={self.freeze}")

    @property
    def frozen(self) -> bool:
        """Return whether the whole backbone is frozen."""
        return self.freeze == "all"

    @property
    def from_embeddings(self) -> bool:
        """Return whether the stage is trained on cached embeddings of a frozen backbone."""
        return self.frozen and self.cached

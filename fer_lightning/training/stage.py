"""What a stage is: one fit with its own optimizer; the next one takes weights only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fer_lightning.core.ranges import Count, Natural, Positive, Seed
from fer_lightning.evaluation.results import StageResult as StageResult
from fer_lightning.models.freeze import BatchNorm


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        epochs: how many.
        pretrained: whether the backbone starts from its weights, or from random ones.
        freeze: what of the backbone is frozen, see models/freeze.py: none, all, a block's name, -n.
        batch_norm: ``with_block``, ``only`` or ``never``, see there.
        loss: ``configured``: the configured head; ``softmax``: softmax, whatever the run's loss is.
        lr_scale: times optimizer.lr.
        cached: with all of the backbone frozen: train from its embeddings, computed once and kept, or (False) run
            it in every epoch. Both train the same neck and head.
        views: with all of it frozen: how many augmented views of each picture are shown, one an epoch in turn;
            0: the picture as it is.
        views_seed: of their augmentation; not the run's, so that runs of all seeds share their embeddings.

    Raises:
        ValueError: views or cached are given, which are for a frozen backbone, and this one is not.
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
        """Whether nothing of the backbone is trained."""
        return self.freeze == "all"

    @property
    def from_embeddings(self) -> bool:
        """Whether it is trained from the embeddings of a frozen backbone, and not through it."""
        return self.frozen and self.cached

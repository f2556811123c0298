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
        cached: whether to compute once, and keep, what the frozen part of the backbone returns: embeddings if all
            of it is frozen, activations that enter the last block if only that is trained. False: the frozen part
            runs in every epoch, which trains the same. None: true if all of the backbone is frozen.
        views: number of augmented views of each picture, of which each epoch shows one in turn; 0: where the
            backbone is frozen or ``cached``, the picture as it is, else another view in every epoch.
        views_seed: seed of their augmentation. It is not the seed of the run, so that runs of all seeds share
            what is kept.
    """

    epochs: Count
    pretrained: bool
    freeze: str | int
    batch_norm: BatchNorm
    loss: Literal["configured", "softmax"]
    lr_scale: Positive
    cached: bool | None = None
    views: Natural = 0
    views_seed: Seed = 0

    @property
    def frozen(self) -> bool:
        """Return whether the whole backbone is frozen."""
        return self.freeze == "all"

    @property
    def from_embeddings(self) -> bool:
        """Return whether the stage is trained on cached embeddings of a frozen backbone."""
        return self.frozen and self.cached is not False

    @property
    def from_activations(self) -> bool:
        """Return whether the stage is trained on cached activations that enter the backbone's last block."""
        return not self.frozen and self.cached is True

    @property
    def through_pictures(self) -> bool:
        """Return whether the stage runs the whole backbone in every epoch."""
        return not (self.from_embeddings or self.from_activations)

    @property
    def augments_anew(self) -> bool:
        """Return whether every epoch augments the pictures in another way."""
        return self.through_pictures and not self.frozen and not self.views

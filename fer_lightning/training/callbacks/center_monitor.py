"""Logging of the centers of a head after every epoch."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning.losses.center_statistics import class_sums
from fer_lightning.training.distributed import sum_over_ranks
from fer_lightning.training.module import FERModule


class CenterMonitor(Callback):
    """Callback that logs the ``epoch_scalars`` of the head, such as the drift of each center, by class.

    The class means are those of the augmented training batches of the epoch, which cost nothing; the drift in
    result.json is computed after training, in eval mode and without augmentation.

    Args:
        names: names of the classes.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.sums: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch to the sums by class."""
        sums = class_sums(outputs["embeddings"].double(), outputs["labels"], len(self.names))
        self.sums = sums if self.sums is None else self.sums + sums

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scalars and reset the sums."""
        assert self.sums is not None
        assert isinstance(pl_module, FERModule)
        sums, self.sums = self.sums, None
        sum_over_ranks(sums)
        totals, counts = sums[:, :-1], sums[:, -1:]
        scalars = pl_module.network.head.epoch_scalars(totals / counts.clamp(min=1), totals.sum(0) / counts.sum())
        for scalar, by_class in scalars.items():
            for name, value in zip(self.names, by_class, strict=True):
                pl_module.log(f"{scalar}/{name}", value.float())

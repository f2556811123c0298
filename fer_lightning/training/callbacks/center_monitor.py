"""What a head has to show of its centers after every epoch."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from fer_lightning.training.distributed import sum_over_ranks
from fer_lightning.training.module import FERModule


class CenterMonitor(Callback):
    """Log the head's ``epoch_scalars``, such as each center's drift, by class.

    They are computed with the class means of the epoch's augmented training batches, at no cost; the drift in
    result.json is computed after training, in eval mode and without augmentation.

    Args:
        names: class names.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.sums: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch to the class sums."""
        embeddings = outputs["embeddings"].double()
        members = F.one_hot(outputs["labels"], len(self.names)).to(embeddings.dtype).T
        sums = torch.cat([members @ embeddings, members.sum(1, keepdim=True)], 1)
        self.sums = sums if self.sums is None else self.sums + sums

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and start anew."""
        assert self.sums is not None
        assert isinstance(pl_module, FERModule)
        sums, self.sums = self.sums, None
        sum_over_ranks(sums)
        totals, counts = sums[:, :-1], sums[:, -1:]
        scalars = pl_module.network.head.epoch_scalars(totals / counts.clamp(min=1), totals.sum(0) / counts.sum())
        for scalar, by_class in scalars.items():
            for name, value in zip(self.names, by_class, strict=True):
                pl_module.log(f"{scalar}/{name}", value.float())

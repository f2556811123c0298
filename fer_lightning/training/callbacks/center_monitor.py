"""Where the centers are after every epoch."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from fer_lightning.losses.center_statistics import center_drift
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.training.distributed import sum_over_ranks
from fer_lightning.training.module import FERModule


class CenterMonitor(Callback):
    """Logs each center's drift and, for cluster loss, D_k by epoch.

    The class means it compares with are those of the epoch's augmented training batches, at no cost; the drift
    in result.json is computed afterwards, in eval mode and without augmentation.

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
        head: Any = pl_module.network.head
        centers = head.centers.detach().double()
        drift = center_drift(centers, totals / counts.clamp(min=1), totals.sum(0) / counts.sum())
        for k, name in enumerate(self.names):
            pl_module.log(f"center_drift/{name}", drift[k].float())
        if isinstance(head, ClusterHead):
            for k, spread in enumerate(head.spread(centers)):
                pl_module.log(f"center_spread/{self.names[k]}", spread.float())

"""What watches a fit: a tidy line an epoch, and where the centers are."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed
from torch.nn import functional as F

from fer_lightning.features import center_drift
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.module import MONITOR, FERModule

log = logging.getLogger(__name__)


class EpochLine(Callback):
    """One line an epoch: which of how many, the minival's macro recall, the time left in this stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the fit has taken so far, the time before an interruption included."""
        return time.monotonic() - self.begin

    def state_dict(self) -> dict[str, Any]:
        """The time taken."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.begin -= state_dict["seconds"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        done = trainer.current_epoch + 1
        total = trainer.max_epochs or done
        left = self.seconds / done * (total - done)
        score = float(trainer.callback_metrics[MONITOR])
        if trainer.is_global_zero:
            log.info("%s: epoch %d of %d, %s %.3f, %.0f s left", self.stage, done, total, MONITOR, score, left)


class EndAtOnce(Callback):
    """SIGTERM ends the process at once, as everywhere else: what a fit goes on from is on disk.

    Lightning's own handler would wait for the batch, and for an answer of the other ranks.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handler back that was there before the Trainer."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class Reseed(Callback):
    """Seeds each epoch anew, so that dropout draws after an interruption what it would have drawn without.

    Args:
        seed: the cell's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch by seed, epoch and rank before the first batch, when the loaders have drawn theirs."""
        if batch_idx == 0:
            sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
            torch.manual_seed(int(sequence.generate_state(1)[0]))


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
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        totals, counts = sums[:, :-1], sums[:, -1:]
        head: Any = pl_module.network.head
        centers = head.centers.detach().double()
        drift = center_drift(centers, totals / counts.clamp(min=1), totals.sum(0) / counts.sum())
        for k, name in enumerate(self.names):
            pl_module.log(f"center_drift/{name}", drift[k].float())
        if isinstance(head, ClusterHead):
            for k, spread in enumerate(head.spread(centers)):
                pl_module.log(f"center_spread/{self.names[k]}", spread.float())

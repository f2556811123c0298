"""What makes a stage that was interrupted go on to the same digits."""

from __future__ import annotations

import signal
import threading
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class EndAtOnce(Callback):
    """SIGTERM ends the process at once, as everywhere else: what a stage goes on from is on disk.

    Lightning's own handler, put in place after on_fit_start, would wait for the batch, and for the other ranks.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handler back that was there before the Trainer."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class Reseed(Callback):
    """Seeds each epoch anew, so that dropout draws after an interruption what it would have drawn without.

    Args:
        seed: the run's.
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

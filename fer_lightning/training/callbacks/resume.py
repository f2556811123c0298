"""Callbacks by which a stage that was interrupted continues to the same result."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class EndOnSigterm(Callback):
    """Callback that lets SIGTERM end the process at once; the state to continue from is on disk.

    The handler that Lightning installs after on_fit_start would wait for the batch and for the other ranks.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the handler from before the Trainer."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class Reseed(Callback):
    """Callback that seeds each epoch, so that dropout draws the same with and without an interruption.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch by seed, epoch and rank before the first batch, after the loaders have drawn theirs."""
        if batch_idx == 0:
            sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
            torch.manual_seed(int(sequence.generate_state(1)[0]))


class Progress(Callback):
    """Callback that tells when there is a new state on disk to continue from.

    Args:
        tell: called as each epoch but the first begins, and after the last one.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell that an epoch has ended; its state is written after all callbacks have been told of its end."""
        if trainer.current_epoch > 0:
            self.tell()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell that the last epoch has ended."""
        self.tell()

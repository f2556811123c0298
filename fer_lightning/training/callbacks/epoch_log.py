"""What is printed and written down of every epoch: its scalars, how steep the loss was, how fast it went."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch.optim import Optimizer

from fer_lightning.training.module import MONITOR

GRADIENT_EVERY = 10
"""Of so many steps one has its gradient looked at: that costs time."""

Epoch = dict[str, float]
"""The scalars of an epoch by name."""


class History(Checkpoint):
    """Keeps the scalars of every epoch: they go into result.json, whatever the logger is.

    To Lightning it is a checkpoint callback: those come after all others and the module have logged their epoch.
    Its place is before the callback that writes the stage's state, so that one that goes on has all its epochs.

    Args:
        tell: is called by the first rank with all epochs, whenever there is one more.
    """

    def __init__(self, tell: Callable[[list[Epoch]], None]) -> None:
        self.epochs: list[Epoch] = []
        self.tell = tell

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind them."""
        self.epochs = [*state_dict["epochs"]]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write an epoch down."""
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        if trainer.is_global_zero:
            self.tell(self.epochs)


class Steepness(Callback):
    """Logs by optimizer group the epoch's mean learning rate, and the gradient's mean norm before clipping."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = defaultdict(list)
        self.steps = 0  # of this epoch: its first one is looked at, however short it is

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at the groups; those that differ in weight decay alone are one."""
        parts: dict[str, list[torch.Tensor]] = defaultdict(list)
        for group in optimizer.param_groups:
            part = group["name"].partition(",")[0]
            if part not in parts:
                self.seen[f"lr/{part}"].append(group["lr"])
            parts[part] += [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        if self.steps % GRADIENT_EVERY == 0:
            for part, gradients in parts.items():
                self.seen[f"grad_norm/{part}"].append(torch.nn.utils.get_total_norm(gradients))
        self.steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means and start anew."""
        for name, values in self.seen.items():
            pl_module.log(name, torch.tensor(values, dtype=torch.float32).mean())
        self.seen.clear()
        self.steps = 0


class Pace(Callback):
    """Logs an epoch's training images a second over all ranks, and which share of its time went into waiting.

    Waiting for data is what lies between two steps; on a GPU that is at work meanwhile it need not cost anything.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.begin = self.ready = time.monotonic()
        self.waited, self.images = 0.0, 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch has come."""
        self.waited += time.monotonic() - self.ready
        self.images += len(batch[1])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The next one is waited for."""
        self.ready = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log; the minival's turn, after the last batch, is not counted."""
        seconds = self.ready - self.begin
        pl_module.log("images_per_second", trainer.world_size * self.images / seconds)
        pl_module.log("waiting_share", self.waited / seconds)


log = logging.getLogger(__name__)


class EpochLine(Callback):
    """One line an epoch: which of how many, the minival's macro recall, the time left in this stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the stage has taken so far, the time before an interruption included."""
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

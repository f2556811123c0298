"""Callbacks that log every epoch: its scalars, learning rates, gradient norms, speed and time left."""

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

log = logging.getLogger(__name__)

GRADIENT_EVERY = 10
"""The gradient norm is computed in one of so many steps, since it takes time."""

Epoch = dict[str, float]
"""Scalars of an epoch by name."""


class History(Checkpoint):
    """Callback that keeps the scalars of every epoch for result.json, whatever the logger is.

    Lightning calls checkpoint callbacks after the module and all other callbacks have logged their epoch. This one
    must come before the callback that writes the state of the stage, so that the state contains all epochs.

    Args:
        on_epoch: called on rank 0 with all epochs after each epoch.
    """

    def __init__(self, on_epoch: Callable[[list[Epoch]], None]) -> None:
        self.epochs: list[Epoch] = []
        self.on_epoch = on_epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the epochs of an interrupted process."""
        self.epochs = [*state_dict["epochs"]]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the scalars of the epoch."""
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        if trainer.is_global_zero:
            self.on_epoch(self.epochs)


class GroupMonitor(Callback):
    """Callback that logs mean learning rate and mean gradient norm before clipping, by group of the optimizer."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = defaultdict(list)
        self.steps = 0  # in this epoch, whose first step is always measured

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Record the groups; those that differ only in weight decay are one."""
        parts: dict[str, list[torch.Tensor]] = defaultdict(list)
        for group in optimizer.param_groups:
            part = group["name"].partition(",")[0]
            if part not in parts:
                self.values[f"lr/{part}"].append(group["lr"])
            parts[part] += [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        if self.steps % GRADIENT_EVERY == 0:
            for part, gradients in parts.items():
                self.values[f"grad_norm/{part}"].append(torch.nn.utils.get_total_norm(gradients))
        self.steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means and reset them."""
        for name, values in self.values.items():
            pl_module.log(name, torch.tensor(values, dtype=torch.float32).mean())
        self.values.clear()
        self.steps = 0


class SpeedMonitor(Callback):
    """Callback that logs training images per second over all ranks, and the share of time spent waiting for data.

    Waiting is the time between two steps; a GPU that is still computing meanwhile loses nothing by it.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to measure the epoch."""
        self.begin = self.ready = time.monotonic()
        self.waited, self.images = 0.0, 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of the batch, and the time waited for it."""
        self.waited += time.monotonic() - self.ready
        self.images += len(batch[1])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start to measure the wait for the next batch."""
        self.ready = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the speed without the time of validation, which comes after the last batch."""
        seconds = self.ready - self.begin
        pl_module.log("images_per_second", trainer.world_size * self.images / seconds)
        pl_module.log("waiting_share", self.waited / seconds)


class EpochLine(Callback):
    """Callback that logs a line per epoch: its number, the macro recall on the minival, and the time left."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the seconds that the stage has taken so far, including those before an interruption."""
        return time.monotonic() - self.begin

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds taken so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add the seconds taken before an interruption."""
        self.begin -= state_dict["seconds"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        done = trainer.current_epoch + 1
        total = trainer.max_epochs or done
        left = self.seconds / done * (total - done)
        score = float(trainer.callback_metrics[MONITOR])
        if trainer.is_global_zero:
            log.info("%s: epoch %d of %d, %s %.3f, %.0f s left", self.stage, done, total, MONITOR, score, left)

"""The Trainer that every stage gets, and its checkpoints."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fer_lightning.core.files import write_atomic
from fer_lightning.core.ranges import Count, Positive
from fer_lightning.training import distributed
from fer_lightning.training.callbacks.epoch_log import Epoch, EpochLine, History, Pace, Steepness
from fer_lightning.training.callbacks.finite_loss import FiniteLoss
from fer_lightning.training.callbacks.resume import EndAtOnce, Reseed
from fer_lightning.training.module import MONITOR
from fer_lightning.training.stage import Stage

LAST = "last.ckpt"
"""A stage's whole state after its last whole epoch: what it goes on from. Deleted when its result is there."""


class TrainerSettings:
    """How and where to train: the Trainer of every stage of a run is built from this.

    Args:
        accelerator: ``cpu`` or ``gpu``.
        devices: ranks a node.
        nodes: how many.
        strategy: ``auto`` for one device, ``ddp`` for several.
        precision: of the Trainer. float16 is not among them: its loss scaling would reach the centers' own steps.
        threads: CPU threads a rank; part of what must be equal for equal digits.
        channels_last: memory format of pictures and kernels.
        gradient_clip: largest norm of the gradient; None: no clipping.
        accumulate: micro-batches that a step's batch is taken in: the same loss with less memory.
        compile: torch.compile of backbone and neck, in training.
        timeout: seconds after which a rank that waits for another gives up, and the run with it.
        started_by: who starts the ranks: ``fer``, or ``slurm``. torchrun is noticed.
        max_steps: stop each stage after so many steps; -1: no such limit. For trying out.
    """

    def __init__(
        self,
        *,
        accelerator: Literal["cpu", "gpu"],
        devices: Count,
        nodes: Count,
        strategy: str,
        precision: Literal["32-true", "64-true", "bf16-mixed"],
        threads: Count,
        channels_last: bool,
        gradient_clip: Positive | None,
        accumulate: Count,
        compile: bool,
        timeout: Positive,
        started_by: Literal["fer", "slurm"],
        max_steps: Annotated[int, Field(ge=-1)],
    ) -> None:
        self.device = "cuda" if accelerator == "gpu" else "cpu"
        self.channels_last = channels_last
        self.precision = precision
        self.threads = threads
        self.compile = compile
        self.timeout = timeout
        self.arguments: dict[str, Any] = {
            "accelerator": accelerator,
            "devices": devices,
            "num_nodes": nodes,
            "strategy": strategy,
            "precision": precision,
            "gradient_clip_val": gradient_clip,
            "accumulate_grad_batches": accumulate,
            "max_steps": max_steps,
        }

    def trainer(
        self,
        stage: Stage,
        name: str,
        directory: Path,
        logger: Logger | bool,
        callbacks: list[Callback],
        seed: int,
        tell: Callable[[list[Epoch]], None],
    ) -> Trainer:
        """A Trainer that keeps in ``directory`` the minival's best epoch, best.ckpt, and its own state, LAST."""
        best = _each_epoch(directory, "best", monitor=MONITOR, mode="max", save_weights_only=True)
        last = _each_epoch(directory, Path(LAST).stem)  # after ``best``, whose score it keeps, too
        finite = FiniteLoss(name, directory / LAST, late=1 if self.device == "cuda" else 0)
        return Trainer(
            max_epochs=stage.epochs,
            callbacks=[
                *(EndAtOnce(), finite, EpochLine(name), Reseed(seed), Steepness(), Pace()),
                *callbacks,
                *(History(tell), best, last),
            ],
            plugins=[AtomicCheckpoints(), distributed.environment()],
            logger=logger,
            use_distributed_sampler=False,  # GlobalBatches is rank-aware, and the minival is not padded
            num_sanity_val_steps=0,
            log_every_n_steps=50,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            **self.arguments,
        )


def _each_epoch(directory: Path, name: str, **more: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        directory,
        name,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        **more,
    )


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent, also after a kill or a full disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, by way of memory: torch tells of a full disk in a way that cannot be told apart."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(Path(path), buffer.getbuffer())

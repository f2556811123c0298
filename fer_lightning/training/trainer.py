"""The Trainer of a stage, and its checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fer_lightning.core.ranges import Count, Positive
from fer_lightning.inference.checkpoint import write_checkpoint
from fer_lightning.training import distributed
from fer_lightning.training.callbacks.epoch_log import Epoch, EpochLine, GroupMonitor, History, SpeedMonitor
from fer_lightning.training.callbacks.finite_loss import FiniteLoss
from fer_lightning.training.callbacks.resume import EndOnSigterm, Reseed
from fer_lightning.training.module import MONITOR
from fer_lightning.training.stage import Stage

LAST = "last.ckpt"
"""Complete state of a stage after its last whole epoch, to continue from; deleted once there is a result."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Settings of the Trainer that every stage of a run is trained by.

    Args:
        accelerator: ``cpu`` or ``gpu``.
        devices: number of ranks per node.
        nodes: number of nodes.
        strategy: ``auto`` for one device, ``ddp`` for several.
        precision: precision of the Trainer. There is no float16: its loss scaling would affect the centers.
        threads: CPU threads per rank; equal results need equal numbers.
        channels_last: whether pictures and kernels are in this memory format.
        gradient_clip: largest norm of the gradient; None: no clipping.
        accumulate: number of micro-batches of a step: the same loss with less memory.
        compile: whether to train with torch.compile of backbone and neck.
        timeout: seconds that a rank waits for another one before the run fails.
        started_by: program that starts the ranks, ``fer`` or ``slurm``; torchrun is detected.
        max_steps: number of steps after which each stage stops, for trials; -1: no limit.
    """

    accelerator: Literal["cpu", "gpu"]
    devices: Count
    nodes: Count
    strategy: str
    precision: Literal["32-true", "64-true", "bf16-mixed"]
    threads: Count
    channels_last: bool
    gradient_clip: Positive | None
    accumulate: Count
    compile: bool
    timeout: Positive
    started_by: Literal["fer", "slurm"]
    max_steps: Annotated[int, Field(ge=-1)]

    @property
    def device(self) -> str:
        """Return the name that torch has for the kind of device."""
        return "cuda" if self.accelerator == "gpu" else "cpu"

    def trainer(
        self,
        stage: Stage,
        name: str,
        directory: Path,
        logger: Logger | bool,
        callbacks: list[Callback],
        seed: int,
        on_epoch: Callable[[list[Epoch]], None],
    ) -> Trainer:
        """Build a Trainer that writes best.ckpt, the best epoch by the minival, and LAST, its own state.

        Args:
            stage: options of the stage.
            name: name of the stage.
            directory: folder of the checkpoints.
            logger: Lightning logger, or False.
            callbacks: further callbacks.
            seed: seed of the run.
            on_epoch: called on rank 0 with the scalars of all epochs after each epoch.
        """
        best = _each_epoch(directory, "best", monitor=MONITOR, mode="max", save_weights_only=True)
        last = _each_epoch(directory, Path(LAST).stem)  # after ``best``, since it stores the best score, too
        finite = FiniteLoss(name, directory / LAST, delay=1 if self.device == "cuda" else 0)
        return Trainer(
            max_epochs=stage.epochs,
            callbacks=[
                *(EndOnSigterm(), finite, EpochLine(name), Reseed(seed), GroupMonitor(), SpeedMonitor()),
                *callbacks,
                *(History(on_epoch), best, last),
            ],
            plugins=[AtomicCheckpoints(), distributed.cluster_environment()],
            logger=logger,
            use_distributed_sampler=False,  # GlobalBatches does that, without padding the minival
            num_sanity_val_steps=0,
            log_every_n_steps=50,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=self.strategy,
            precision=self.precision,
            gradient_clip_val=self.gradient_clip,
            accumulate_grad_batches=self.accumulate,
            max_steps=self.max_steps,
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
    """Checkpoint writer whose files are either complete or absent, even after a kill or on a full disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        write_checkpoint(checkpoint, Path(path))

"""Stages: each is one fit with its own module, optimizer and Trainer; the next one takes weights only."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch import Tensor

from fer_lightning.cache import atomic_folder, home, locked, write_atomic
from fer_lightning.callbacks import EpochLine
from fer_lightning.module import MONITOR, FERModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """One stage.

    Args:
        epochs: how many.
        pretrained: whether the backbone starts from its weights, or from random ones.
        train_blocks: the backbone's last blocks that are trained; 0: none, from cached embeddings; None: all.
        loss: ``cell``: the configured head; ``softmax``: softmax, whatever the cell's loss is.
        lr_scale: times optimizer.lr.

    Raises:
        ValueError: epochs, train_blocks or lr_scale make no sense.
    """

    epochs: int
    pretrained: bool
    train_blocks: int | None
    loss: Literal["cell", "softmax"]
    lr_scale: float

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.train_blocks is not None and self.train_blocks < 0:
            raise ValueError(f"train_blocks must not be negative, got {self.train_blocks}")
        if self.lr_scale <= 0:
            raise ValueError(f"lr_scale must be positive, got {self.lr_scale}")


@dataclass(frozen=True)
class FitResult:
    """How a fit went: its best epoch (from 0) by the minival, that score, and the seconds it took."""

    name: str
    epochs: int
    best_epoch: int
    minival_macro_recall: float
    seconds: float
    shared: bool = False


class TrainerSettings:
    """How and where to train: the Trainer of every stage of a cell is built from this.

    Args:
        accelerator: ``cpu`` or ``gpu``.
        devices: ranks a node.
        nodes: how many.
        strategy: ``auto`` for one device, ``ddp`` for several.
        precision: of the Trainer. float16 is not among them: its loss scaling would reach the centers' own steps.
        threads: CPU threads a rank; part of what must be equal for equal digits.
        channels_last: memory format of pictures and kernels.
        gradient_clip: largest norm of the gradient; None: no clipping.
        accumulate: micro-batches a step.
        max_steps: stop each fit after so many steps; -1: no such limit. For trying out.
    """

    def __init__(
        self,
        *,
        accelerator: Literal["cpu", "gpu"],
        devices: int,
        nodes: int,
        strategy: str,
        precision: Literal["32-true", "64-true", "bf16-mixed"],
        threads: int,
        channels_last: bool,
        gradient_clip: float | None,
        accumulate: int,
        max_steps: int,
    ) -> None:
        self.device = "cuda" if accelerator == "gpu" else "cpu"
        self.channels_last = channels_last
        self.precision = precision
        self.threads = threads
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
        self, fit: Fit, name: str, directory: Path, logger: Logger | bool, callbacks: list[Callback]
    ) -> Trainer:
        """A Trainer that keeps the minival's best epoch as ``best.ckpt`` in ``directory``."""
        best = ModelCheckpoint(
            directory,
            "best",
            monitor=MONITOR,
            mode="max",
            save_weights_only=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        return Trainer(
            max_epochs=fit.epochs,
            callbacks=[best, EpochLine(name), *callbacks],
            logger=logger,
            use_distributed_sampler=False,  # GlobalBatches is rank-aware, and the minival is not padded
            num_sanity_val_steps=0,
            log_every_n_steps=50,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            **self.arguments,
        )


def run_fit(
    name: str, fit: Fit, module: FERModule, data: LightningDataModule, trainer: Trainer, seed: int
) -> tuple[dict[str, Tensor], FitResult]:
    """Train. Returns the best epoch's weights; ``module`` itself is left with the last epoch's."""
    begin = time.monotonic()
    seed_everything(seed, workers=True, verbose=False)
    trainer.fit(module, datamodule=data)
    best = trainer.checkpoint_callback
    assert isinstance(best, ModelCheckpoint)
    assert best.best_model_score is not None
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    trainer.strategy.barrier()  # the first rank may rename the folder once all have read
    score = float(best.best_model_score)
    result = FitResult(name, fit.epochs, int(checkpoint["epoch"]), score, time.monotonic() - begin)
    return checkpoint["state_dict"], result


def is_first_rank() -> bool:
    """Whether this process is the one that writes files: rank 0, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def shared_fit(
    key: str, train: Callable[[Path], tuple[dict[str, Tensor], FitResult]]
) -> tuple[dict[str, Tensor], FitResult]:
    """The best weights of a stage that several cells agree on: trained by the first, found by the others.

    Args:
        key: content hash of everything that enters the stage.
        train: trains it and leaves ``best.ckpt`` in the folder it is given.
    """
    entry = home() / "stages" / key[:32]
    if not is_first_rank():  # the first rank holds the lock and started this one only if it trains
        return _found_fit(entry) if entry.exists() else train(entry)
    with locked(entry):
        if entry.exists():
            log.info("stage found: another cell with the same choices has trained it")
            return _found_fit(entry)
        with atomic_folder(entry) as folder:
            state, result = train(folder)
            write_atomic(folder / "fit.json", json.dumps({**asdict(result), "shared": True}))
        return state, result


def _found_fit(entry: Path) -> tuple[dict[str, Tensor], FitResult]:
    checkpoint = torch.load(entry / "best.ckpt", map_location="cpu", weights_only=True)
    return checkpoint["state_dict"], FitResult(**json.loads((entry / "fit.json").read_text()))

"""Stages: each is one fit with its own module, optimizer and Trainer; the next one takes weights only."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from fer_lightning.cache import home, lock_of, write_atomic
from fer_lightning.callbacks import EndAtOnce, EpochLine, FiniteLoss, Reseed
from fer_lightning.errors import UserError
from fer_lightning.freeze import BatchNorm
from fer_lightning.history import Epoch, History, Pace, Steepness
from fer_lightning.module import MONITOR, FERModule
from fer_lightning.training import distributed

log = logging.getLogger(__name__)

LAST = "last.ckpt"
"""A fit's whole state after its last whole epoch: what it goes on from. It goes when the fit's result is there."""

_FIT = "fit.json"
"""How a shared stage went; where it lies, the stage is complete."""


@dataclass(frozen=True)
class Fit:
    """One stage.

    Args:
        epochs: how many.
        pretrained: whether the backbone starts from its weights, or from random ones.
        freeze: what of the backbone is frozen, see ``fer_lightning.freeze.freeze``: none, all, a block's name, -n.
        batch_norm: ``with_block``, ``only`` or ``never``, see there.
        loss: ``cell``: the configured head; ``softmax``: softmax, whatever the cell's loss is.
        lr_scale: times optimizer.lr.
        cached: with all of the backbone frozen: train from its embeddings, computed once and kept, or (False) run
            it in every epoch. Both train the same neck and head.
        views: with all of it frozen: how many augmented views of each picture are shown, one an epoch in turn;
            0: the picture as it is.
        views_seed: of their augmentation; not the cell's, so that cells of all seeds share their embeddings.

    Raises:
        ValueError: a number makes no sense, or is for a frozen backbone and this one is not.
    """

    epochs: int
    pretrained: bool
    freeze: str | int
    batch_norm: BatchNorm
    loss: Literal["cell", "softmax"]
    lr_scale: float
    cached: bool = True
    views: int = 0
    views_seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.lr_scale <= 0:
            raise ValueError(f"lr_scale must be positive, got {self.lr_scale}")
        if self.views < 0 or self.views_seed < 0:
            raise ValueError(f"views and views_seed must not be negative, got {self.views} and {self.views_seed}")
        if not self.frozen and (self.views or not self.cached):
            raise ValueError(f"views and cached are for freeze=all, and this fit has freeze={self.freeze}")

    @property
    def frozen(self) -> bool:
        """Whether nothing of the backbone is trained."""
        return self.freeze == "all"


@dataclass(frozen=True)
class FitResult:
    """How a fit went: its best epoch (from 0) by the minival, that score, the seconds, every epoch's scalars."""

    name: str
    epochs: int
    best_epoch: int
    minival_macro_recall: float
    seconds: float
    history: list[Epoch]
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
        accumulate: micro-batches that a step's batch is taken in: the same loss with less memory.
        compile: torch.compile of backbone and neck, in training.
        timeout: seconds after which a rank that waits for another gives up, and the cell with it.
        started_by: who starts the ranks: ``fer``, or ``slurm``. torchrun is noticed.
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
        compile: bool,
        timeout: float,
        started_by: Literal["fer", "slurm"],
        max_steps: int,
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
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
        fit: Fit,
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
            max_epochs=fit.epochs,
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


def run_fit(
    name: str, fit: Fit, module: FERModule, data: LightningDataModule, trainer: Trainer, seed: int
) -> tuple[dict[str, Tensor], FitResult]:
    """Train, or go on where an earlier process was stopped: after its last whole epoch, to the same last digit.

    Returns:
        The best epoch's weights, and how it went; ``module`` itself is left with the last epoch's.

    Raises:
        UserError: it ended before its first epoch did.
    """
    history, best, last = trainer.checkpoint_callbacks
    assert isinstance(history, History)
    assert isinstance(best, ModelCheckpoint)
    assert isinstance(last, ModelCheckpoint)
    half_done = Path(last.dirpath or "") / LAST
    if there := distributed.agree(half_done.exists()):
        log.info("%s: goes on from %s", name, half_done)
    seed_everything(seed, workers=True, verbose=False)
    trainer.fit(module, datamodule=data, ckpt_path=half_done if there else None, weights_only=True)
    if best.best_model_score is None:
        raise UserError(f"trainer.max_steps={trainer.max_steps}: {name} ended before an epoch did; raise it")
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    trainer.strategy.barrier()  # nobody removes a file that another rank has yet to read
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    (line,) = (callback for callback in callbacks if isinstance(callback, EpochLine))
    score = float(best.best_model_score)
    epoch = int(checkpoint["epoch"])
    result = FitResult(name, fit.epochs, epoch, score, line.seconds, history.epochs)
    return checkpoint["state_dict"], result


def shared_fit(
    key: str, train: Callable[[Path], tuple[dict[str, Tensor], FitResult]]
) -> tuple[dict[str, Tensor], FitResult]:
    """The best weights of a stage that several cells agree on: trained by the first, found by the others.

    Whoever comes while it is being trained waits. Where the one that trains it dies, the next goes on from there.

    Args:
        key: content hash of everything that enters the stage.
        train: trains it and leaves ``best.ckpt`` in the folder it is given, or goes on there.
    """
    entry = home() / "stages" / key[:32]
    lock = lock_of(entry)
    told = False
    try:
        while (answer := distributed.agree(_look_for(entry, lock) if distributed.is_first() else "")) == "busy":
            if not told:
                log.info("waiting: another cell trains the stage that this one starts with")
            told = True
        if answer == "found":
            log.info("stage found: another cell with the same choices has trained it")
            return _found_fit(entry)
        state, result = train(entry)
        if distributed.is_first():
            write_atomic(entry / _FIT, json.dumps({**asdict(result), "shared": True}))
            (entry / LAST).unlink(missing_ok=True)
        return state, result
    finally:
        lock.release()


def _look_for(entry: Path, lock: FileLock) -> Literal["found", "busy", "ours"]:
    """Whether a shared stage is trained, or being trained by others. If neither, the lock is ours from now on."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        return "busy"
    return "found" if (entry / _FIT).exists() else "ours"


def _found_fit(entry: Path) -> tuple[dict[str, Tensor], FitResult]:
    checkpoint = torch.load(entry / "best.ckpt", map_location="cpu", weights_only=True)
    return checkpoint["state_dict"], FitResult(**json.loads((entry / _FIT).read_text()))

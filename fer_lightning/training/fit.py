"""Training of one stage: from the start, from an interrupted state, or by another run that shares the stage."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import home, lock_of, remove_partial, write_atomic, writing_to
from fer_lightning.evaluation.results import StageResult
from fer_lightning.training import distributed
from fer_lightning.training.callbacks.epoch_log import EpochLine, History
from fer_lightning.training.module import FERModule
from fer_lightning.training.stage import Stage
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)

_STAGE = "stage.json"
"""File with the outcome of a shared stage; it is written when the stage is complete."""


def fit_stage(
    name: str, stage: Stage, module: FERModule, data: LightningDataModule, trainer: Trainer, seed: int
) -> tuple[dict[str, Tensor], StageResult]:
    """Train a stage, or continue one that was interrupted after its last whole epoch, with the same result.

    Args:
        name: name of the stage.
        stage: its options.
        module: module to train; it ends with the weights of the last epoch.
        data: datamodule to train on.
        trainer: Trainer from ``TrainerSettings.trainer``.
        seed: seed of the run.

    Returns:
        The weights of the best epoch, and the outcome of the stage.

    Raises:
        UserError: the stage ended before its first epoch did.
    """
    history, best, last = trainer.checkpoint_callbacks
    assert isinstance(history, History)
    assert isinstance(best, ModelCheckpoint)
    assert isinstance(last, ModelCheckpoint)
    interrupted = Path(last.dirpath or "") / LAST
    if resume := distributed.agree(interrupted.exists()):
        log.info("%s: continues from %s", name, interrupted)
    seed_everything(seed, workers=True, verbose=False)
    trainer.fit(module, datamodule=data, ckpt_path=interrupted if resume else None, weights_only=True)
    if best.best_model_score is None:
        raise UserError(f"trainer.max_steps={trainer.max_steps}: {name} ended before its first epoch; raise it")
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    trainer.strategy.barrier()  # no rank removes a file that another one has not read yet
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    (line,) = (callback for callback in callbacks if isinstance(callback, EpochLine))
    score = float(best.best_model_score)
    epoch = int(checkpoint["epoch"])
    result = StageResult(name, stage.epochs, epoch, score, line.seconds, history.epochs)
    return checkpoint["state_dict"], result


def fit_shared_stage(
    key: str, train: Callable[[Path], tuple[dict[str, Tensor], StageResult]]
) -> tuple[dict[str, Tensor], StageResult]:
    """Return the best weights and the outcome of a stage that several runs share: the first one trains it.

    A run that needs the stage meanwhile waits. If the run that trains it dies, the next one continues from there.

    Args:
        key: content hash of everything that the stage depends on.
        train: trains the stage, or continues it, and leaves ``best.ckpt`` in the folder that it is given.
    """
    entry = home() / "stages" / key[:32]
    lock = lock_of(entry)
    try:
        with writing_to(entry):
            if not _acquire(lock):
                log.info("waiting: another run trains the stage that this one starts with")
                while not _acquire(lock):
                    pass
        if distributed.agree((entry / _STAGE).exists()):
            log.info("stage found: another run with the same choices has trained it")
            checkpoint = torch.load(entry / "best.ckpt", map_location="cpu", weights_only=True)
            return checkpoint["state_dict"], StageResult(
                **json.loads((entry / _STAGE).read_text(encoding="utf-8"))
            )
        if distributed.is_first():
            remove_partial(entry)
        state, result = train(entry)
        if distributed.is_first():
            write_atomic(entry / _STAGE, json.dumps({**asdict(result), "shared": True}))
            (entry / LAST).unlink(missing_ok=True)
        return state, result
    finally:
        lock.release()


def _acquire(lock: FileLock) -> bool:
    """Let rank 0 wait a second for a lock; return on all ranks whether it has it, before one of them times out."""
    if distributed.is_first():
        with suppress(Timeout):
            lock.acquire(timeout=1)
    return distributed.agree(lock.is_locked)

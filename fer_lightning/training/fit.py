"""Training one stage: from the start, from where it was interrupted, or finding what another run has trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import home, lock_of, write_atomic
from fer_lightning.training import distributed
from fer_lightning.training.callbacks.epoch_log import EpochLine, History
from fer_lightning.training.module import FERModule
from fer_lightning.training.stage import Stage, StageResult
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)

_STAGE = "stage.json"
"""How a shared stage went; where it lies, the stage is complete."""


def fit_stage(
    name: str, stage: Stage, module: FERModule, data: LightningDataModule, trainer: Trainer, seed: int
) -> tuple[dict[str, Tensor], StageResult]:
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
    result = StageResult(name, stage.epochs, epoch, score, line.seconds, history.epochs)
    return checkpoint["state_dict"], result


def fit_shared_stage(
    key: str, train: Callable[[Path], tuple[dict[str, Tensor], StageResult]]
) -> tuple[dict[str, Tensor], StageResult]:
    """The best weights of a stage that several runs agree on: trained by the first, found by the others.

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
                log.info("waiting: another run trains the stage that this one starts with")
            told = True
        if answer == "found":
            log.info("stage found: another run with the same choices has trained it")
            return _found_stage(entry)
        state, result = train(entry)
        if distributed.is_first():
            write_atomic(entry / _STAGE, json.dumps({**asdict(result), "shared": True}))
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
    return "found" if (entry / _STAGE).exists() else "ours"


def _found_stage(entry: Path) -> tuple[dict[str, Tensor], StageResult]:
    checkpoint = torch.load(entry / "best.ckpt", map_location="cpu", weights_only=True)
    return checkpoint["state_dict"], StageResult(**json.loads((entry / _STAGE).read_text()))

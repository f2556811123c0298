"""The loggers of ``conf/logger``: they log the epochs of a run while it is trained, and its result in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities import rank_zero_only

from fer_lightning.core.errors import UserError, in_words
from fer_lightning.evaluation.results import Result, TrialResult
from fer_lightning.training import distributed
from fer_lightning.training.loggers import run_summary, wandb_run
from fer_lightning.training.loggers.run_summary import About, Board, Stages

log = logging.getLogger(__name__)


class RunLogger:
    """Base class of a run's loggers, which logs nothing. A logger's failure is one notice, and not the run's."""

    def of(self, stage: str) -> Logger | bool:
        """Return Lightning's logger for a stage that begins; False: none."""
        return False

    def epochs(self, stages: Stages) -> None:
        """Log the stages' histories so far, after every epoch."""

    def finish(self, result: Result | TrialResult) -> None:
        """Log the result of a run, or of a trial, once it is written."""


def none(directory: Path, about: About) -> RunLogger:
    """Return a logger that logs nothing."""
    return RunLogger()


def csv(directory: Path, about: About) -> RunLogger:
    """Return a logger into ``logs/<stage>/metrics.csv``; parts of an interrupted stage stay beside it."""
    return _Csv(directory)


class _Csv(RunLogger):
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def of(self, stage: str) -> Logger:
        _set_aside(self.directory / "logs" / stage / "metrics.csv")
        return CSVLogger(self.directory, name="logs", version=stage)


@rank_zero_only
def _set_aside(path: Path) -> None:
    """Rename a file that the logger would delete."""
    if path.exists():
        parts = len(list(path.parent.glob("metrics-*.csv")))
        path.rename(path.with_name(f"metrics-{parts + 1}.csv"))


class OnBoard(RunLogger):
    """Shows all stages of a run as one run on a board, on one axis of epochs; only the first rank does.

    Epochs that this process did not train (of a shared stage, or before an interruption) are shown with the first
    one that it did.

    Args:
        directory: folder of the run.
        start: starts the board.
    """

    def __init__(self, directory: Path, start: Callable[[], Board]) -> None:
        self.directory = directory
        self.start: Callable[[], Board] | None = start
        self.board: Board | None = None
        self.shown: set[int] = set()

    def of(self, stage: str) -> bool:
        """Start the board with the first stage, so that a missing account is noticed before training."""
        if self.start is not None and distributed.is_first():
            begin, self.start = self.start, None
            self._try(lambda: setattr(self, "board", begin()))
        return False

    def epochs(self, stages: Stages) -> None:
        """Show the epochs that are not shown yet."""
        if board := self.board:
            self._try(lambda: run_summary.catch_up(board, stages, self.shown))

    def finish(self, result: Result | TrialResult) -> None:
        """Show the remaining epochs and the result."""
        self.epochs([*map(asdict, result.stages)])
        if board := self.board:
            self._try(lambda: run_summary.finish(board, self.directory, result))

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.board = None
            reason = str(error) if isinstance(error, UserError) else in_words(error)
            log.warning("notice: the logger failed, the run goes on without: %s", reason)


def tensorboard(directory: Path, about: About) -> RunLogger:
    """Return a logger of TensorBoard events under ``logs`` in the run's folder."""
    return OnBoard(directory, partial(TensorBoard, directory / "logs", about))


class TensorBoard:
    """Board of TensorBoard events. Those of an interrupted process are deleted: all epochs are shown again.

    Args:
        folder: folder of the events.
        about: identity of the run; its choices become hyper-parameters.
    """

    def __init__(self, folder: Path, about: About) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        self.writer: Any = SummaryWriter(str(folder))
        self.about = about

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show an epoch's numbers."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def finish(
        self, epoch: int, summary: Mapping[str, float], pictures: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        """Show the result as pictures, as text and with the hyper-parameters; then close."""
        for name, pixels in pictures.items():
            self.writer.add_image(name, pixels, epoch, dataformats="HWC")
        lines = [f"| {name} | {value:.4f} |" for name, value in summary.items()]
        self.writer.add_text("result", "\n".join(["| | |", "| --- | --- |", *lines]), epoch)
        config = {**self.about.config["choices"], "seed": self.about.config["seed"], "group": self.about.group}
        self.writer.add_hparams(config, {f"result/{name}": value for name, value in summary.items()}, run_name=".")
        self.writer.close()


def wandb(directory: Path, about: About, *, project: str, offline: bool) -> RunLogger:
    """Return a logger to Weights & Biases: one run for each run, grouped by table and protocol.

    Args:
        directory: folder of the run.
        about: identity of the run.
        project: project at Weights & Biases.
        offline: whether to keep the run in its folder, for ``wandb sync``; so it is kept as well where the server
            does not answer in time.
    """

    def start() -> Board:
        try:
            return wandb_run.start(about, directory, project, offline=offline)
        except UserError as error:
            log.warning("notice: %s; the run goes on offline in %s", error, directory / "wandb")
            return wandb_run.start(about, directory, project, offline=True)

    return OnBoard(directory, start)

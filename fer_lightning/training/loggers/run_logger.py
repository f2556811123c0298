"""Where the epochs of a run are logged while it is trained, and what came out of it in the end."""

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
    """Logs a run; this one, nowhere. A logger's failure is told in one line and never the run's."""

    def of(self, stage: str) -> Logger | bool:
        """Lightning's logger of a stage that begins; False: none."""
        return False

    def epochs(self, stages: Stages) -> None:
        """Another epoch has ended: the stages' histories so far."""

    def finish(self, result: Result | TrialResult) -> None:
        """The run, or the trial, is complete and written down."""


def none(directory: Path, about: About) -> RunLogger:
    """No logger."""
    return RunLogger()


def csv(directory: Path, about: About) -> RunLogger:
    """``logs/<stage>/metrics.csv`` in the run's folder; of an interrupted stage earlier parts beside it."""
    return _Csv(directory)


class _Csv(RunLogger):
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def of(self, stage: str) -> Logger:
        _set_aside(self.directory / "logs" / stage / "metrics.csv")
        return CSVLogger(self.directory, name="logs", version=stage)


@rank_zero_only
def _set_aside(written: Path) -> None:
    """Give a file that the logger would delete another name."""
    if written.exists():
        parts = len(list(written.parent.glob("metrics-*.csv")))
        written.rename(written.with_name(f"metrics-{parts + 1}.csv"))


class OnBoard(RunLogger):
    """All stages of a run as one run on a board, on one axis of epochs; made by the first rank alone.

    Epochs that this process did not see (of a shared stage, or before an interruption) are shown with the first
    one that it does.

    Args:
        directory: the run's.
        start: begins the run.
    """

    def __init__(self, directory: Path, start: Callable[[], Board]) -> None:
        self.directory = directory
        self.start: Callable[[], Board] | None = start
        self.board: Board | None = None
        self.shown: set[int] = set()

    def of(self, stage: str) -> bool:
        """Begin the run, if that was not done: who has no account shall not hear of it at the end."""
        if self.start is not None and distributed.is_first():
            begin, self.start = self.start, None
            self._without_harm(lambda: setattr(self, "board", begin()))
        return False

    def epochs(self, stages: Stages) -> None:
        """Show those that are not shown yet."""
        if board := self.board:
            self._without_harm(lambda: run_summary.catch_up(board, stages, self.shown))

    def finish(self, result: Result | TrialResult) -> None:
        """Show the rest."""
        self.epochs([*map(asdict, result.stages)])
        if board := self.board:
            self._without_harm(lambda: run_summary.finish(board, self.directory, result))

    def _without_harm(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.board = None
            said = str(error) if isinstance(error, UserError) else in_words(error)
            log.warning("notice: the logger failed, the run goes on without: %s", said)


def tensorboard(directory: Path, about: About) -> RunLogger:
    """TensorBoard events under ``logs`` in the run's folder: scalars, pictures and what came out."""
    return OnBoard(directory, partial(TensorBoard, directory / "logs", about))


class TensorBoard:
    """A Board of TensorBoard's. What an interrupted process wrote goes: all epochs are shown again.

    Args:
        folder: of the events.
        about: its config stands among the hyper-parameters.
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
        """Show what came out as pictures, as a text and beside the hyper-parameters; then close."""
        for name, pixels in pictures.items():
            self.writer.add_image(name, pixels, epoch, dataformats="HWC")
        lines = [f"| {name} | {value:.4f} |" for name, value in summary.items()]
        self.writer.add_text("result", "\n".join(["| | |", "| --- | --- |", *lines]), epoch)
        said = {**self.about.config["choices"], "seed": self.about.config["seed"], "group": self.about.group}
        self.writer.add_hparams(said, {f"result/{name}": value for name, value in summary.items()}, run_name=".")
        self.writer.close()


def wandb(directory: Path, about: About, *, project: str, offline: bool) -> RunLogger:
    """One Weights & Biases run for each run, grouped by table and protocol.

    Args:
        directory: the run's.
        about: what tells its run from others.
        project: at Weights & Biases.
        offline: keep the run under the run's folder; ``wandb sync`` uploads it. So is one whose server does not
            answer in time.
    """

    def start() -> Board:
        try:
            return wandb_run.start(about, directory, project, offline=offline)
        except UserError as error:
            log.warning("notice: %s; the run goes on offline in %s", error, directory / "wandb")
            return wandb_run.start(about, directory, project, offline=True)

    return OnBoard(directory, start)

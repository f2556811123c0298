"""The content of a dashboard's run, and the interface of a dashboard; independent of Lightning and wandb."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from fer_lightning.config import identity
from fer_lightning.core.files import content_hash
from fer_lightning.evaluation import results
from fer_lightning.evaluation.results import Result, TrialResult
from fer_lightning.training.loggers import run_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Config = dict[str, Any]
Stages = Sequence[Mapping[str, Any]]

TUNE = "tune"
"""Job type of a trial; that of a run is the name of its last stage."""

_TAGS = ("loss", "class_weights", "stage", "backbone", "sampler")
_FOLDERS = {"data": ("root", "store")}  # the last part of these paths may name a person


@dataclass(frozen=True)
class About:
    """Identity of a run on a dashboard.

    Attributes:
        id: the first eight digits are those at the end of the run's folder, the others stand for group and job, so
            that a run has the same id on every machine.
        name: readable name, with the seed.
        group: table and first eight digits of its protocol's hash.
        job: name of the last stage, or ``tune``.
        tags: choices as on the command line, ``loss=cluster``.
        config: resolved config and protocol, without paths of this machine.
    """

    id: str
    name: str
    group: str
    job: str
    tags: tuple[str, ...]
    config: Config


def about(config: Config, protocol: Config, directory: Path, *, trial: bool = False) -> About:
    """Return the identity of a run on a dashboard.

    Args:
        config: resolved config of the run.
        protocol: protocol of the run, see ``run.build.protocol``.
        directory: folder of the run, in the folder of its table.
        trial: whether it is a trial of a search.
    """
    choices = config["choices"]
    parent = directory.resolve().parent
    table = parent.parent if trial and parent.name == results.TRIALS else parent
    group = group_of(table, protocol)
    job = TUNE if trial else [name for name, node in config["stage"].items() if isinstance(node, dict)][-1]
    run_hash = content_hash(identity.identity(config, protocol))[:8]
    tags = [f"{key}={choices[key]}" for key in _TAGS if key in choices]
    return About(
        id=f"{run_hash}-{content_hash([group, job])[:8]}",
        name=f"{choices['loss']}-{choices['class_weights']}-s{config['seed']}",
        group=group,
        job=job,
        tags=tuple(tag[:64] for tag in tags if tag != "sampler=shuffle"),  # wandb refuses longer ones
        config={**_without_paths(config), "protocol": protocol},
    )


def group_of(table: Path, protocol: Config) -> str:
    """Return the name of a table's folder and the first eight digits of its protocol's hash."""
    return f"{table.resolve().name}-{content_hash(protocol)[:8]}"


def _without_paths(config: Config) -> Config:
    """Return a config whose paths are cut to the file's name; those of the data are left out."""
    shown: Config = {key: _file_names(value) for key, value in config.items()}
    for group, keys in _FOLDERS.items():
        if group in shown:
            shown[group] = {**shown[group], **{key: None for key in keys if key in shown[group]}}
    return shown


def _file_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _file_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_file_names(item) for item in value]
    if isinstance(value, str) and ("/" in value or "\\" in value):
        return PurePath(value.replace("\\", "/")).name
    return value


class Board(Protocol):
    """Interface of a dashboard that shows a run's numbers and figures."""

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show an epoch's numbers."""

    def finish(
        self, epoch: int, summary: Mapping[str, float], pictures: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        """Show the result after the last ``epoch``, with pictures (H, W, 3), and close."""


def epochs(stages: Stages) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the numbers of all epochs on one axis over the stages, which begins at 0 as best_epoch does."""
    before = 0
    for stage in stages:
        for epoch, values in enumerate(stage.get("history", ())):
            yield before + epoch, {name: value for name, value in values.items() if is_number(value)}
        before += stage["epochs"]


def is_number(value: Any) -> bool:
    """Return whether a dashboard can draw a value."""
    return isinstance(value, int | float) and math.isfinite(value)


def catch_up(board: Board, stages: Stages, shown: set[int]) -> None:
    """Show the epochs that are not in ``shown``, and add them to it."""
    for epoch, values in epochs(stages):
        if epoch not in shown:
            board.scalars(epoch, values)
            shown.add(epoch)


def finish(board: Board, directory: Path, result: Result | TrialResult) -> None:
    """Show the result of a run, or of a trial, and close the board."""
    drawn = {name: run_figures.pixels(figure) for name, figure in pictures(directory, result)}
    board.finish(sum(stage.epochs for stage in result.stages) - 1, summary(result), drawn)


def summary(result: Result | TrialResult) -> dict[str, float]:
    """Return a result's numbers by name: of the minival and, for a run, of the test and after each correction."""
    values: dict[str, Any] = {"minival/macro_recall": result.minival_macro_recall, "seconds": result.seconds}
    if isinstance(result, Result):
        parts = {f"test/{name}": scores for name, scores in (result.posthoc or {}).items()}
        for name, scores in {"test": result, **parts}.items():
            values |= {f"{name}/{metric}": value for metric, value in scores.metrics.items()}
            values |= {f"{name}/recall/{label}": value for label, value in scores.per_class_recall.items()}
        values |= {f"center_drift/{label}": value for label, value in result.center_drift.items()}
        values |= {f"center_spread/{label}": value for label, value in result.center_spread.items()}
    values["optimism"] = results.optimism(result)
    return {name: float(value) for name, value in values.items() if is_number(value)}


def pictures(directory: Path, result: Result | TrialResult) -> Iterator[tuple[str, Figure]]:
    """Yield figures of a result by name; a trial has none. They show no face, id or label of a single image."""
    if not isinstance(result, Result):
        return
    yield "test/confusion", run_figures.confusion(result.confusion, result.classes)
    yield "test/class_recall", run_figures.class_recall(result.per_class_recall)
    path = directory / results.EMBEDDINGS
    if path.exists():
        with np.load(path) as arrays:
            points = arrays["embeddings"], arrays["labels"]
            means, centers = arrays["class_means"], arrays.get("centers")
        yield "test/embeddings", run_figures.embeddings(*points, result.classes, means, centers)

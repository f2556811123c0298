"""The files that a run leaves behind, as typed models; each is written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import atomic_path, write_atomic

RESULT = "result.json"
TRIAL = "trial.json"
PREDICTIONS = "predictions.parquet"
PERSON = "person"
"""Column of the predictions that says who is pictured, where the data set does."""
EMBEDDINGS = "embeddings.npz"
CHECKPOINT = "best.ckpt"

LOG = "log.txt"
"""Log of a run of a sweep or table."""

TRIALS = "trials"
"""Folder of a table's trials, beside its runs."""


VERSION = 1
"""Version of the keys of result.json and trial.json; files that name none are of version 0.

Raise it when a key is renamed or changes its meaning, and let ``_read`` translate earlier files.
"""


@dataclass(frozen=True)
class StageResult:
    """How a stage of training went.

    Attributes:
        name: of the stage.
        epochs: number of epochs.
        best_epoch: epoch that was kept, from 0, chosen by the minival.
        minival_macro_recall: that epoch's macro recall on the minival.
        seconds: duration.
        history: the scalars of every epoch by name; empty in results of early versions.
        shared: whether several runs share the stage, which one of them trained.
    """

    name: str
    epochs: int
    best_epoch: int
    minival_macro_recall: float
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    shared: bool = False


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")  # a key of a user's own is kept


class Scores(_Model):
    """Scores of a model on the test set.

    Attributes:
        metrics: values by name, see ``metrics.METRICS``.
        per_class_recall: recall by class; None where a class has no test image.
        confusion: (C, C) counts, rows true, columns predicted.
    """

    metrics: dict[str, float]
    per_class_recall: dict[str, float | None]
    confusion: list[list[int]]


class GroupScores(_Model):
    """Scores on the test images of one group, such as those of women.

    Attributes:
        images: number of its test images.
        accuracy: share of them that are right.
        macro_recall: mean recall of the classes that it has images of.
        per_class_recall: recall by class; None where it has no image.
    """

    images: int
    accuracy: float
    macro_recall: float
    per_class_recall: dict[str, float | None]


class Geometry(_Model):
    """Spread inside the classes and distances between their means, see ``final_test.geometry``."""

    within: dict[str, float | None]
    between: list[list[float | None]]


class Provenance(_Model):
    """Versions of the packages, the machine, and the paths of its data."""

    versions: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    paths: dict[str, str | None] = {}


class DataCounts(_Model):
    """Numbers of images, and whether they may be shown to others.

    Attributes:
        train: training images by class.
        minival: number of images of the minival.
        test: test images by class.
        left_out: rows left out of the test set by reason, such as a label that is none of the classes.
        dropped_leaks: training images by class that were dropped as copies of test images.
        excluded: number of training images left out by data.exclude.
        set_aside: number of unusable files.
        redistributable: whether the data's licence allows to show images.
    """

    train: dict[str, int] = {}
    minival: int = 0
    test: dict[str, int] = {}
    left_out: dict[str, int] = {}
    dropped_leaks: dict[str, int] = {}
    excluded: int = 0
    set_aside: int = 0
    redistributable: bool = False


class Result(Scores):
    """The content of a run's result.json.

    Attributes:
        version: see ``VERSION``.
        posthoc: scores after each correction, with its fitted number; None in results of early versions.
        protocol: what the numbers are comparable under.
        center_drift: by class, see ``center_statistics.center_drift``; empty where the head has no centers.
        center_spread: D_k of the cluster loss by class.
        by_group: scores by attribute and value, see ``data.recall_by``.
        checkpoint: path of the checkpoint that ``fer evaluate`` tested.
        config: resolved.
        seconds: duration of the run.
    """

    version: int = VERSION
    posthoc: dict[str, Scores] | None = None
    geometry: Geometry | None = None
    classes: list[str]
    protocol: dict[str, Any]
    provenance: Provenance
    data: DataCounts = DataCounts()
    stages: list[StageResult] = []
    notices: list[str] = []
    center_drift: dict[str, float] = {}
    center_spread: dict[str, float] = {}
    by_group: dict[str, dict[str, GroupScores]] = {}
    checkpoint: str | None = None
    config: dict[str, Any]
    seed: int
    seconds: float = 0.0

    @property
    def minival_macro_recall(self) -> float:
        """Return that of the last stage; NaN for a result of ``fer evaluate``, which has none."""
        return self.stages[-1].minival_macro_recall if self.stages else math.nan


class TrialResult(_Model):
    """The content of a trial's trial.json; its attributes are those of a ``Result``."""

    version: int = VERSION
    minival_macro_recall: float
    stages: list[StageResult]
    config: dict[str, Any]
    seconds: float


_Kind = TypeVar("_Kind", Result, TrialResult)


def optimism(result: Result | TrialResult) -> float:
    """Return how much choosing the last stage's epoch by the test set would have added to macro recall.

    That is the test macro recall of its best epoch less that of the epoch chosen by the minival, both measured
    during training on the images as they are. NaN where the test set was not evaluated after every epoch.
    """
    if not result.stages:
        return math.nan
    stage = result.stages[-1]
    recalls = [epoch.get("test/macro_recall", math.nan) for epoch in stage.history]
    return max(recalls) - recalls[stage.best_epoch] if recalls and not np.isnan(recalls).any() else math.nan


def write(
    directory: Path,
    result: Result,
    ids: Sequence[str],
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    corrected: Mapping[str, npt.NDArray[np.int64]],
    persons: Sequence[str | None] = (),
) -> None:
    """Write a run's predictions and, last, its result.json, with which the run is complete.

    Args:
        directory: folder of the run.
        result: content of result.json.
        ids: of the N test images.
        labels: class indices (N,).
        probabilities: (N, C).
        corrected: predicted class indices (N,) after each correction.
        persons: who is pictured (N,); empty where nobody says so.
    """
    import pyarrow as pa  # who only reads results, such as fer sweep status, need not wait for it
    from pyarrow import parquet

    classes = np.array(result.classes)
    columns = {"id": list(ids), "label": classes[labels], "prediction": classes[probabilities.argmax(1)]}
    columns |= {f"prediction_{name}": classes[predicted] for name, predicted in corrected.items()}
    columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    if any(persons):
        columns[PERSON] = list(persons)
    with atomic_path(directory / PREDICTIONS) as partial:
        parquet.write_table(pa.table(columns), partial)
    _write(directory / RESULT, result)


def write_trial(directory: Path, result: TrialResult) -> None:
    """Write a trial's trial.json, with which the trial is complete."""
    _write(directory / TRIAL, result)


def _write(path: Path, result: Result | TrialResult) -> None:
    content = {"version": result.version, **result.model_dump(exclude_unset=True)}
    write_atomic(path, json.dumps(content, indent=2) + "\n")


def read(directory: Path) -> Result | None:
    """Return a run's result, or None where the run is not complete.

    Raises:
        UserError: the file is no result, or of a later version than is known.
    """
    result = _read(directory / RESULT, Result)
    if result:
        result.protocol.setdefault("numerics", 0)  # written before there was a version of the numbers
    return result


def read_trial(directory: Path) -> TrialResult | None:
    """Return a trial's result, or None where the trial is not complete; raises as ``read``."""
    return _read(directory / TRIAL, TrialResult)


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.setdefault("version", 0) if isinstance(content, dict) else 0
        if isinstance(version, int) and version > VERSION:
            raise UserError(
                f"{path}: written in version {version}, and this fer_lightning reads up to version {VERSION}: "
                "install a newer one"
            )
        return kind.model_validate(content)
    except FileNotFoundError:
        return None
    except ValueError as error:  # no JSON, or not what the model says
        raise UserError(
            f"{path}: not a {path.name} of fer: {_reason(error)}; delete it and start the run again"
        ) from error


def _reason(error: ValueError) -> str:
    """Return what is wrong with a file, in a few words."""
    if not isinstance(error, ValidationError):
        return str(error)
    keys = {".".join(map(str, item["loc"])): item for item in error.errors()}
    if missing := [key for key, item in keys.items() if item["type"] == "missing"]:
        return f"it has no {', '.join(sorted(missing))}"
    key, item = next(iter(keys.items()))
    return f"{key}: {item['msg']}"

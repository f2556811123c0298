"""The predictions of a table's runs for each test image, paired by id, and their influence on metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.metrics import METRICS, Counts
from fer_lightning.evaluation.results import PERSON, PREDICTIONS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.statistics import FloatArray, IntArray

AS_TRAINED = ""
_COLUMN = "prediction"
_STEP = 1e-30


@dataclass(frozen=True)
class Answers:
    """A run's predictions, in the order of the images' ids.

    Attributes:
        ids: ids of the n test images, sorted.
        labels: class indices (n,).
        predictions: class indices (n,) as trained and after each correction that was recorded.
        persons: who is pictured (n,); None where nobody says so.
    """

    ids: pa.Array
    labels: IntArray
    predictions: dict[str, IntArray]
    persons: list[str | None]


def read(directory: Path, run: FinishedRun) -> Answers | None:
    """Return a run's predictions; None where it left none, as runs of an early version.

    Raises:
        UserError: the file is broken or does not belong to this result.
    """
    path = directory / run.folder / PREDICTIONS
    if not path.exists():
        return None
    classes = pa.array(run.result.classes)
    try:
        names = parquet.read_schema(path).names
        columns = [name for name in names if name == "label" or name.startswith(_COLUMN)]
        persons = [PERSON] if PERSON in names else []
        table = parquet.read_table(path, columns=["id", *columns, *persons])
        table = table.combine_chunks().sort_by("id")
        indices = {name: _indices(table[name], classes) for name in columns}
        labels = indices.pop("label")
        matches = np.array_equal(np.bincount(labels, minlength=len(classes)), np.sum(run.result.confusion, axis=1))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}; delete the run's folder to run it again") from error
    if not matches:
        raise UserError(f"{path}: not of the result.json beside it; delete the run's folder to run it again")
    corrections = {name.removeprefix(_COLUMN).removeprefix("_"): values for name, values in indices.items()}
    known = table[PERSON].to_pylist() if persons else [None] * len(table)
    return Answers(table["id"].combine_chunks(), labels, corrections, known)


def _indices(column: pa.ChunkedArray, classes: pa.Array) -> IntArray:
    indices = pc.index_in(column, value_set=classes)
    if indices.null_count:
        raise ValueError("it names a class that the result has not")
    values: IntArray = indices.to_numpy().astype(np.int64)
    return values


def refuse_other_pictures(directory: Path, answers: dict[str, Answers | None]) -> None:
    """Refuse runs in one table, given by folder name, that were tested on different images.

    Raises:
        UserError: two runs have different test images, or label one differently.
    """
    known = {folder: run for folder, run in answers.items() if run is not None}
    first = next(iter(known), "")
    for folder, run in known.items():
        if not (run.ids.equals(known[first].ids) and np.array_equal(run.labels, known[first].labels)):
            raise UserError(
                f"{directory}: {first} and {folder} were not tested on the same pictures, so they cannot be "
                f"compared; delete the older of them to run it again"
            )


@dataclass
class Pictures:
    """The predictions of a row's runs for the same test images.

    Attributes:
        classes: number of classes C.
        labels: class indices (n,).
        predictions: class indices (S, n) in the order of the row's seeds: as the row is shown, and after each
            correction that all its runs have.
    """

    classes: int
    labels: IntArray
    predictions: dict[str, IntArray]
    _slopes: dict[str, FloatArray] = field(default_factory=dict)

    def influences(self, metric: str, seeds: Sequence[int]) -> FloatArray | None:
        """Return how much each image adds to a metric, to first order and up to a constant of its class.

        Args:
            metric: column of the table; that of a correction begins with its name and a dot.
            seeds: indices (S,) into the row's seeds.

        Returns:
            dM/dcount[label, prediction] (S, n) at the seed's confusion matrix; None where the metric is no
            function of the confusion matrix, or where the predictions after the correction were not recorded.
        """
        correction, name = naming.parts(metric)
        of_confusion = METRICS[name].of_confusion
        if of_confusion is None or correction not in self.predictions:
            return None
        predictions = self.predictions[correction]
        if metric not in self._slopes:
            counts = confusions(self.labels, predictions, self.classes)
            self._slopes[metric] = np.stack([gradient(of_confusion, confusion) for confusion in counts])
        indices = np.asarray(seeds)
        influences: FloatArray = self._slopes[metric][indices[:, None], self.labels, predictions[indices]]
        return influences


def pictures(answers: Sequence[Answers | None], classes: int, posthoc: str | None) -> Pictures | None:
    """Return the predictions of a row's runs stacked; None where a run left none.

    Args:
        answers: predictions of each run, in the order of the row's seeds.
        classes: number of classes C.
        posthoc: correction that the row shows.
    """
    runs = [run for run in answers if run is not None]
    if not runs or len(runs) < len(answers):
        return None
    shared = [name for name in runs[0].predictions if all(name in run.predictions for run in runs)]
    stacked = {name: np.stack([run.predictions[name] for run in runs]) for name in shared}
    if posthoc is not None:
        if posthoc not in stacked:
            return None
        stacked = {AS_TRAINED: stacked[posthoc]}
    return Pictures(classes, runs[0].labels, stacked)


def gradient(metric: Callable[[Counts], Counts], counts: IntArray | FloatArray) -> FloatArray:
    """Return the partial derivatives (C, C) of a metric by every count of a confusion matrix.

    By a complex step, Im f(M + ih E) / h, which is exact to rounding (Squire & Trapp, SIAM Review 1998).

    Args:
        metric: function of confusion matrices, see ``Metric.of_confusion``.
        counts: (C, C).

    Returns:
        (C, C); NaN where the metric is.
    """
    size = counts.size
    moved = counts + 1j * _STEP * np.eye(size).reshape(size, *counts.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(metric(moved)).imag.reshape(counts.shape) / _STEP


def confusions(labels: IntArray, predictions: IntArray, classes: int) -> IntArray:
    """Return a confusion matrix per seed (S, C, C) of labels (n,) and predictions (S, n)."""
    cells = classes * labels + predictions
    return np.stack([np.bincount(row, minlength=classes**2).reshape(classes, classes) for row in cells])

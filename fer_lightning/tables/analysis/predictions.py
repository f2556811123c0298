"""What the runs of a table predicted of each test picture, paired by the pictures' ids."""

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
from fer_lightning.evaluation.results import PREDICTIONS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.statistics import FloatArray, IntArray

AS_TRAINED = ""
_COLUMN = "prediction"
_STEP = 1e-30


@dataclass(frozen=True)
class Answers:
    """A run's answers, in the order of the pictures' ids.

    Attributes:
        ids: of the n test pictures, sorted.
        labels: (n,) class indices.
        predictions: (n,) class indices, as trained and after each correction that was written down.
    """

    ids: pa.Array
    labels: IntArray
    predictions: dict[str, IntArray]


def read(directory: Path, run: FinishedRun) -> Answers | None:
    """A run's predictions; None where it left none, as runs of an early version.

    Raises:
        UserError: the file is broken or is not of this result.
    """
    path = directory / run.folder / PREDICTIONS
    if not path.exists():
        return None
    classes = pa.array(run.result.classes)
    try:
        columns = [name for name in parquet.read_schema(path).names if name == "label" or name.startswith(_COLUMN)]
        table = parquet.read_table(path, columns=["id", *columns])
        table = table.combine_chunks().sort_by("id")
        found = {name: _indices(table[name], classes) for name in columns}
        labels = found.pop("label")
        matches = np.array_equal(np.bincount(labels, minlength=len(classes)), np.sum(run.result.confusion, axis=1))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}; delete the run's folder to run it again") from error
    if not matches:
        raise UserError(f"{path}: not of the result.json beside it; delete the run's folder to run it again")
    corrections = {name.removeprefix(_COLUMN).removeprefix("_"): values for name, values in found.items()}
    return Answers(table["id"].combine_chunks(), labels, corrections)


def _indices(column: pa.ChunkedArray, classes: pa.Array) -> IntArray:
    places = pc.index_in(column, value_set=classes)
    if places.null_count:
        raise ValueError("it names a class that the result has not")
    values: IntArray = places.to_numpy().astype(np.int64)
    return values


def refuse_other_pictures(directory: Path, answers: dict[str, Answers | None]) -> None:
    """Hold the runs of a table, by their folders' names, to the same test pictures.

    Raises:
        UserError: two have different ones, or label one differently.
    """
    there = {folder: found for folder, found in answers.items() if found is not None}
    first = next(iter(there), "")
    for folder, found in there.items():
        one = there[first]
        if not (found.ids.equals(one.ids) and np.array_equal(found.labels, one.labels)):
            raise UserError(
                f"{directory}: {first} and {folder} were not tested on the same pictures, so they cannot be "
                f"compared; delete the older of them to run it again"
            )


@dataclass
class Pictures:
    """What a row's runs predicted of the same test pictures.

    Attributes:
        classes: C.
        labels: (n,) class indices.
        predictions: (S, n) class indices in the order of the row's seeds: the row's own, and after a correction
            that all its runs have.
    """

    classes: int
    labels: IntArray
    predictions: dict[str, IntArray]
    _slopes: dict[str, FloatArray] = field(default_factory=dict)

    def influences(self, metric: str, seeds: Sequence[int]) -> FloatArray | None:
        """How much each picture adds to a metric, to first order and up to a constant of its class.

        Args:
            metric: a column of the table; a correction's begins with its name and a dot.
            seeds: their places among the row's own, S of them.

        Returns:
            (S, n), dM/dcount[label, prediction] at the seed's confusion matrix; None where the metric is no
            function of the confusion matrix, or where predictions after the correction were not written down.
        """
        correction, name = naming.parts(metric)
        of_confusion = METRICS[name].of_confusion
        if of_confusion is None or correction not in self.predictions:
            return None
        predictions = self.predictions[correction]
        if metric not in self._slopes:
            counts = confusions(self.labels, predictions, self.classes)
            self._slopes[metric] = np.stack([gradient(of_confusion, one) for one in counts])
        places = np.asarray(seeds)
        found: FloatArray = self._slopes[metric][places[:, None], self.labels, predictions[places]]
        return found


def pictures(answers: Sequence[Answers | None], classes: int, posthoc: str | None) -> Pictures | None:
    """The answers of a row's runs side by side; None where one run left none.

    Args:
        answers: in the order of the row's seeds.
        classes: C.
        posthoc: the correction that the row shows.
    """
    there = [one for one in answers if one is not None]
    if not there or len(there) < len(answers):
        return None
    shared = [name for name in there[0].predictions if all(name in one.predictions for one in there)]
    stacked = {name: np.stack([one.predictions[name] for one in there]) for name in shared}
    if posthoc is not None:
        if posthoc not in stacked:
            return None
        stacked = {AS_TRAINED: stacked[posthoc]}
    return Pictures(classes, there[0].labels, stacked)


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

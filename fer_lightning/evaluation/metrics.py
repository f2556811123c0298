"""The registry of metrics, and the numbers of a result computed from class probabilities and labels.

An entry of ``METRICS`` is all that a metric needs to stand in result.json, in tables and in comparisons. Reading
the registry needs no torch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Counts = Any
"""Confusion matrices (..., C, C), rows true, columns predicted; real, or complex where a derivative is taken."""


@dataclass(frozen=True)
class Metric:
    """A metric of a result; one of the two functions must be given, and the first one is used if both are.

    Args:
        name: key in result.json and in a table's file.
        heading: column heading.
        note: explanation below a table.
        percent: whether it is shown in percent; if not, with three decimals.
        lower_is_better: whether its best value is the lowest.
        of_confusion: function of confusion matrices (..., C, C) that is analytic in the counts. With it a mean's
            interval includes the draw of the test images; without it the interval is over the seeds only.
        of_probabilities: function of probabilities (N, C) in float64 and labels (N,), for what is no function of a
            confusion matrix.
    """

    name: str
    heading: str
    note: str = ""
    percent: bool = False
    lower_is_better: bool = False
    of_confusion: Callable[[Counts], Counts] | None = None
    of_probabilities: Callable[[Tensor, Tensor], float] | None = None

    def __post_init__(self) -> None:
        if not (self.of_confusion or self.of_probabilities):
            raise ValueError(f"metric {self.name}: give of_confusion or of_probabilities")

    def of_counts(self, confusions: Counts) -> npt.NDArray[np.float64]:
        """Return the values (...) for confusion matrices (..., C, C); NaN where it is undefined.

        Raises:
            ValueError: the metric is no function of a confusion matrix.
        """
        if self.of_confusion is None:
            raise ValueError(f"metric {self.name} is no function of a confusion matrix")
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.of_confusion(confusions), dtype=np.float64)

    def value(self, probabilities: Tensor, labels: Tensor, confusion: Counts) -> float:
        """Return the recorded value; see ``evaluate``."""
        if self.of_probabilities and not self.of_confusion:
            return float(self.of_probabilities(probabilities, labels))
        return float(self.of_counts(confusion))


def accuracy(counts: Counts) -> Counts:
    """Return the share of the images on the diagonal."""
    return _trace(counts) / counts.sum((-2, -1))


def macro_recall(counts: Counts) -> Counts:
    """Return the mean recall of the classes that have images; the score that epochs, too, are chosen by."""
    return _mean_of_present(_diagonal(counts), counts.sum(-1), counts)


def macro_f1(counts: Counts) -> Counts:
    """Return the mean of 2 TP / (2 TP + FP + FN) over the classes that have images."""
    return _mean_of_present(2 * _diagonal(counts), counts.sum(-1) + counts.sum(-2), counts)


def cohen_kappa(counts: Counts) -> Counts:
    """Return the agreement beyond that of independent coders with the same margins (Cohen 1960)."""
    total = counts.sum((-2, -1))
    expected = (counts.sum(-1) * counts.sum(-2)).sum(-1) / total**2
    return (accuracy(counts) - expected) / (1 - expected)


def krippendorff_alpha(counts: Counts) -> Counts:
    """Return Krippendorff's alpha for nominal data and two coders, the labels and the predictions.

    1 - observed / expected disagreement (Krippendorff 2011); NaN where only one class occurs.
    """
    margins = counts.sum(-1) + counts.sum(-2)
    total = margins.sum(-1)
    expected = 1 - (margins * (margins - 1)).sum(-1) / (total * (total - 1))
    return 1 - (1 - 2 * _trace(counts) / total) / expected


def _diagonal(counts: Counts) -> Counts:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _trace(counts: Counts) -> Counts:
    return _diagonal(counts).sum(-1)


def _mean_of_present(numerators: Counts, denominators: Counts, counts: Counts) -> Counts:
    """Return the mean of quotients (..., C) over the classes that have images."""
    present = counts.real.sum(-1) > 0
    shares = np.divide(numerators, denominators, where=present, out=np.zeros_like(numerators + 0.0))
    return shares.sum(-1) / present.sum(-1)


def _confusion(probabilities: Tensor, labels: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(probabilities, labels, probabilities.shape[1])


def _by_torchmetrics(function: str, **options: Any) -> Callable[[Tensor, Tensor], float]:
    """Return a function of torchmetrics, which is imported when it is called.

    Values by class are averaged over the classes that occur in the labels.
    """

    def measure(probabilities: Tensor, labels: Tensor) -> float:
        from torchmetrics.functional import classification

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No positive samples")  # of the classes that do not occur
            values = getattr(classification, function)(probabilities, labels, probabilities.shape[1], **options)
        return float(values[labels.bincount(minlength=len(values)) > 0].mean() if values.ndim else values)

    return measure


def _auroc(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean AUROC of the classes that occur; NaN where only one does, and there is no rest."""
    if bool((labels == labels[0]).all()):
        return math.nan
    return _by_torchmetrics("multiclass_auroc", average="none")(probabilities, labels)


_METRICS = (
    Metric("accuracy", "Accuracy", percent=True, of_confusion=accuracy),
    Metric(
        "macro_recall",
        "Macro recall",
        "= unweighted average recall = balanced accuracy",
        percent=True,
        of_confusion=macro_recall,
    ),
    Metric("macro_f1", "Macro F1", percent=True, of_confusion=macro_f1),
    Metric("cohen_kappa", "Kappa", "kappa: Cohen's", of_confusion=cohen_kappa),
    Metric("krippendorff_alpha", "Alpha", "alpha: Krippendorff's, nominal", of_confusion=krippendorff_alpha),
    Metric(
        "auroc",
        "AUROC",
        "AUROC: one against the rest, mean over the classes",
        of_probabilities=_auroc,
    ),
    Metric(
        "average_precision",
        "AP",
        "AP: average precision, mean over the classes",
        of_probabilities=_by_torchmetrics("multiclass_average_precision", average="none"),
    ),
    Metric(
        "ece",
        "ECE",
        "ECE: expected calibration error, 15 bins, lower is better",
        lower_is_better=True,
        of_probabilities=_by_torchmetrics("multiclass_calibration_error", n_bins=15),
    ),
)

OF_CONFUSION = tuple(metric.name for metric in _METRICS if metric.of_confusion)
"""Metrics that are functions of a confusion matrix, whose intervals include the draw of the test images."""

METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
"""The metrics of a result by name, in the order in which they are shown."""


def by_group(
    predictions: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    attributes: Sequence[Mapping[str, str]],
    classes: Sequence[str],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return scores of the test images of each group, by attribute and value.

    Args:
        predictions: class indices (N,).
        labels: class indices (N,).
        attributes: values by attribute of each image (N,); one that is not known is missing.
        classes: names of the C classes.
    """
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for attribute in sorted({name for values in attributes for name in values}):
        values = np.array([image.get(attribute, "") for image in attributes])
        for value in sorted(set(values.tolist()) - {""}):
            rows = values == value
            confusion = np.zeros((len(classes), len(classes)), np.int64)
            np.add.at(confusion, (labels[rows], predictions[rows]), 1)
            scores.setdefault(attribute, {})[value] = {
                "images": int(rows.sum()),
                "accuracy": float(accuracy(confusion)),
                "macro_recall": float(macro_recall(confusion)),
                "per_class_recall": _recall_by_class(confusion, classes),
            }
    return scores


def _recall_by_class(confusion: Counts, classes: Sequence[str]) -> dict[str, float | None]:
    """Return recall by class; None where a class has no image."""
    sizes, correct = confusion.sum(1), confusion.diagonal()
    return {name: float(correct[k] / sizes[k]) if sizes[k] else None for k, name in enumerate(classes)}


def evaluate(probabilities: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return all metrics of a set of N images.

    Macro averages, AUROC and average precision are means over the classes that occur in ``labels``. The expected
    calibration error has 15 equal bins (Guo et al. 2017).

    Args:
        probabilities: (N, C), rows summing to one.
        labels: class indices (N,).
        classes: names of the C classes.

    Returns:
        ``metrics`` by name (see METRICS), ``per_class_recall`` by class name (None where a class does not occur)
        and ``confusion``, C lists of C integers, rows true, columns predicted.
    """
    probabilities = probabilities.double()
    confusion = _confusion(probabilities, labels).cpu().numpy()
    return {
        "metrics": {name: metric.value(probabilities, labels, confusion) for name, metric in METRICS.items()},
        "per_class_recall": _recall_by_class(confusion, classes),
        "confusion": confusion.tolist(),
    }

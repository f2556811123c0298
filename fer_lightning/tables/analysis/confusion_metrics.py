"""The metrics that are functions of a confusion matrix, and what one picture does to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Counts = Any
"""An array (..., C, C), rows true, columns predicted; real, or complex where a derivative is taken."""


def accuracy(counts: Counts) -> Counts:
    """Share of the pictures on the diagonal."""
    return _trace(counts) / counts.sum((-2, -1))


def macro_recall(counts: Counts) -> Counts:
    """Mean recall of the classes that have pictures."""
    return _mean_of_present(_diagonal(counts), counts.sum(-1), counts)


def macro_f1(counts: Counts) -> Counts:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that have pictures."""
    return _mean_of_present(2 * _diagonal(counts), counts.sum(-1) + counts.sum(-2), counts)


def cohen_kappa(counts: Counts) -> Counts:
    """Agreement beyond that of independent coders with the same margins (Cohen 1960)."""
    total = counts.sum((-2, -1))
    expected = (counts.sum(-1) * counts.sum(-2)).sum(-1) / total**2
    return (accuracy(counts) - expected) / (1 - expected)


def krippendorff_alpha(counts: Counts) -> Counts:
    """As ``fer_lightning.evaluation.metrics.krippendorff_alpha``: nominal, two coders."""
    margins = counts.sum(-1) + counts.sum(-2)
    total = margins.sum(-1)
    expected = 1 - (margins * (margins - 1)).sum(-1) / (total * (total - 1))
    return 1 - (1 - 2 * _trace(counts) / total) / expected


OF_CONFUSION: dict[str, Callable[[Counts], Counts]] = {
    "accuracy": accuracy,
    "macro_recall": macro_recall,
    "macro_f1": macro_f1,
    "cohen_kappa": cohen_kappa,
    "krippendorff_alpha": krippendorff_alpha,
}
"""The other metrics of a result need the probabilities."""

_STEP = 1e-30


def gradient(metric: str, counts: Counts) -> FloatArray:
    """Partial derivatives of a metric by every count.

    By a complex step, Im f(M + ih E) / h, which is exact to rounding (Squire & Trapp, SIAM Review 1998).

    Args:
        metric: one of OF_CONFUSION.
        counts: (C, C).

    Returns:
        (C, C); NaN where the metric is.
    """
    size = counts.size
    moved = counts + 1j * _STEP * np.eye(size).reshape(size, *counts.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(OF_CONFUSION[metric](moved)).imag.reshape(counts.shape) / _STEP


def confusions(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], classes: int) -> Counts:
    """A confusion matrix a seed, (S, C, C), of labels (n,) and predictions (S, n)."""
    place = classes * labels + predictions
    return np.stack([np.bincount(one, minlength=classes**2).reshape(classes, classes) for one in place])


def _diagonal(counts: Counts) -> Counts:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _trace(counts: Counts) -> Counts:
    return _diagonal(counts).sum(-1)


def _mean_of_present(above: Counts, below: Counts, counts: Counts) -> Counts:
    """Mean of quotients over the classes that have pictures."""
    present = counts.real.sum(-1) > 0
    share = np.divide(above, below, where=present, out=np.zeros_like(above + 0.0))
    return share.sum(-1) / present.sum(-1)

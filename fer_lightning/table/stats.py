"""The statistics of a table: standard errors and intervals, over seeds and over test images.

Quantiles are from scipy.special, which scipy.stats has them from: it is imported half a second sooner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]


class Difference(NamedTuple):
    """A mean difference of two rows with its standard error and 95 % t-interval; NaN for fewer than two seeds."""

    mean: float
    error: float
    low: float
    high: float
    seeds: int

    @property
    def shown(self) -> bool:
        """Larger than two standard errors, and zero outside the interval (few seeds need more than two)."""
        return abs(self.mean) > 2 * self.error and not self.low <= 0 <= self.high

    @property
    def bound(self) -> float:
        """The largest absolute difference inside the interval."""
        return max(abs(self.low), abs(self.high))


def standard_error_over_images(confusion: Sequence[Sequence[int]] | npt.NDArray[np.int64]) -> float:
    """Standard error of macro recall from the draw of the test images alone, class sizes fixed.

    Args:
        confusion: (C, C) counts, rows true.

    Returns:
        sqrt(sum_k r_k (1 - r_k) / n_k) / C over the C classes that have images.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    sizes = counts.sum(1)
    present = sizes > 0
    recall = counts.diagonal()[present] / sizes[present]
    return float(np.sqrt((recall * (1 - recall) / sizes[present]).sum()) / present.sum())


def interval(values: Sequence[float] | FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Student's t-interval of a mean; (NaN, NaN) for fewer than two values."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return math.nan, math.nan
    quantile = float(special.stdtrit(len(sample) - 1, (1 + level) / 2))
    half = quantile * float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return float(sample.mean()) - half, float(sample.mean()) + half


def half_width_with_images(values: Sequence[float] | FloatArray, image_error: float, level: float = 0.95) -> float:
    """Half of an interval of a mean over seeds that also holds the draw of the test images.

    The two sources in quadrature: Student's t for the seeds, the normal quantile for the images, whose error all
    seeds share. NaN for fewer than two values.

    Args:
        values: one a seed.
        image_error: standard error from the test images alone, see ``standard_error_over_images``.
        level: of confidence.
    """
    low, high = interval(values, level)
    return math.hypot((high - low) / 2, float(special.ndtri((1 + level) / 2)) * image_error)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """``first`` minus ``second``, one value a seed that both have."""
    gaps = np.subtract(first, second)
    error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    return Difference(float(gaps.mean()), error, *interval(gaps), len(gaps))

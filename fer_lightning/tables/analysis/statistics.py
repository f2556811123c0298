"""The statistics of a table: means over seeds and test images, their intervals and tests, McNemar's test.

A table's test images are crossed with its seeds: every seed answers the same images. Both are samples, so the
variance of a mean has three parts (two-way random effects): between seeds, between images, and what is left.

Differences that are tested together are tested by Bonferroni's procedure alone: each of m differences has the
interval at the level 1 - 0.05 / m and m times its p-value, and is decided where the interval leaves out 0.

Quantiles are from scipy.special, which scipy.stats has them from: it is imported half a second sooner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from fer_lightning.evaluation.resampling import LEVEL, RESAMPLES

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ALPHA = 0.05

SEEDS_TO_DECIDE = 5
"""With fewer seeds there are intervals, but no marks, and no difference is called decided."""


class Estimate(NamedTuple):
    """A mean over S seeds, or a mean paired difference, and the parts of its variance.

    The variance is ``between / S + image``. Half of the interval is the root of two squares: Student's t of S - 1
    degrees of freedom times the error from the seeds, and the normal quantile times the error that the test images
    add. So it is never narrower than the t-interval over the seeds. It was chosen for its coverage, see
    experiments/benchmarks/coverage.py.

    Attributes:
        mean: mean of the seeds' values.
        seeds: number of seeds S.
        between: variance of the values between seeds, n - 1 in the denominator; NaN for fewer than two.
        image: variance that the draw of the test images adds however many seeds there are; 0 where it is unknown.
    """

    mean: float
    seeds: int
    between: float
    image: float = 0.0

    @property
    def error(self) -> float:
        """Return the standard error; NaN for fewer than two seeds."""
        return math.sqrt(self.between / self.seeds + self.image) if self.seeds else math.nan

    @property
    def low(self) -> float:
        """Return the lower end of the 95 % interval."""
        return self.mean - self.half_width()

    @property
    def high(self) -> float:
        """Return the upper end of the 95 % interval."""
        return self.mean + self.half_width()

    def half_width(self, level: float = LEVEL, seeds: int | None = None) -> float:
        """Return half the width of the interval; NaN for fewer than two seeds.

        Args:
            level: confidence level.
            seeds: number of seeds to assume with all else unchanged; None: as many as there are.
        """
        count = self.seeds if seeds is None else seeds
        if self.seeds < 2:
            return math.nan
        quantile = (1 + level) / 2
        return math.hypot(
            float(special.stdtrit(count - 1, quantile)) * math.sqrt(self.between / count),
            float(special.ndtri(quantile)) * math.sqrt(self.image),
        )

    def interval(self, count: int = 1) -> tuple[float, float]:
        """Return the ends of the interval of one of ``count`` differences that are tested together."""
        half = self.half_width(simultaneous(count))
        return self.mean - half, self.mean + half

    def excludes_zero(self, count: int = 1) -> bool:
        """Return whether the interval of one of ``count`` differences leaves out 0."""
        return self.half_width(simultaneous(count)) < abs(self.mean)

    def is_decided(self, count: int = 1) -> bool:
        """Return whether one of ``count`` differences is decided: enough seeds, and an interval without 0."""
        return self.seeds >= SEEDS_TO_DECIDE and self.excludes_zero(count)

    def p_value(self, count: int = 1) -> float:
        """Return the two-sided p-value, times ``count`` and at most 1; NaN for fewer than two seeds.

        It is the chance of an error in the whole family at which the interval would end at 0. The search for it
        begins with the interval itself, so that it is below ALPHA exactly where that excludes 0.
        """
        if self.seeds < 2:
            return math.nan
        below, above = (0.0, math.nextafter(ALPHA, 0)) if self.excludes_zero(count) else (ALPHA, 1.0)
        for _ in range(60):
            middle = (below + above) / 2
            excluded = self.half_width(simultaneous(count, middle)) < abs(self.mean)
            below, above = (below, middle) if excluded else (middle, above)
        return above

    def seeds_to_settle(self, level: float = LEVEL, least: int = 2) -> int | None:
        """Return the fewest seeds whose interval would exclude zero if mean and variances stayed as they are.

        Args:
            level: confidence level.
            least: lowest number to return.

        Returns:
            None where no number of seeds is enough, since the draw of the test images alone hides the difference.
        """
        normal = float(special.ndtri((1 + level) / 2)) ** 2
        room = self.mean**2 - normal * self.image
        if not room > 0:
            return None
        count = max(least, math.ceil(normal * self.between / room))
        while self.half_width(level, count) >= abs(self.mean):
            count += 1
        return count


def estimate(
    values: Sequence[float] | FloatArray, influences: FloatArray | None = None, labels: IntArray | None = None
) -> Estimate:
    """Return a mean over seeds with the parts of its variance; class sizes are taken as fixed.

    The images' part is that of a two-way analysis of variance in each class: the mean square of the images less
    the residual mean square of image and seed, which the variance between the seeds already includes.

    Args:
        values: values of a metric (S,), or their paired differences.
        influences: (S, n) what each image adds to each value, up to a constant of its class, see
            ``predictions.Pictures.influences``; None: the images' part is unknown.
        labels: class indices (n,). A class of one image has no variance and adds none.
    """
    sample = np.asarray(values, dtype=np.float64)
    seeds = len(sample)
    mean = float(sample.mean()) if seeds else math.nan
    between = float(sample.var(ddof=1)) if seeds > 1 else math.nan
    if influences is None or labels is None or seeds < 2:
        return Estimate(mean, seeds, between)
    known = np.equal.outer(labels, np.unique(labels)).astype(np.float64)
    sizes = known.sum(0)
    free = np.maximum(sizes - 1, 1)
    centred = influences - (influences @ known / sizes) @ known.T
    common = centred.mean(0)
    by_image = common**2 @ known / free
    by_residual = ((centred - common) ** 2).sum(0) @ known / (free * (seeds - 1))
    return Estimate(mean, seeds, between, max(float(sizes @ (by_image - by_residual / seeds)), 0.0))


def simultaneous(count: int, alpha: float = ALPHA) -> float:
    """Return the level of each of ``count`` intervals that together hold with 1 - ``alpha`` (Bonferroni)."""
    return 1 - alpha / max(count, 1)


class McNemar(NamedTuple):
    """The comparison of two checkpoints on the same images.

    Attributes:
        both: number of images that both classify correctly.
        first: number of images that only the first classifies correctly.
        second: number of images that only the second classifies correctly.
        neither: number of images that both classify wrongly.
        p: exact two-sided p-value: under equal accuracy ``first`` is binomial.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> McNemar:
    """Run McNemar's exact test (1947) of two checkpoints, given whether each is right on each image (n,)."""
    from scipy.stats import binomtest

    both, only_first, only_second, neither = (
        int(outcome.sum()) for outcome in (first & second, first & ~second, second & ~first, ~first & ~second)
    )
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return McNemar(both, only_first, only_second, neither, p)


def standard_error_over_images(confusion: Sequence[Sequence[int]] | npt.NDArray[np.int64]) -> float:
    """Return the standard error of macro recall from the draw of the test images alone, class sizes fixed.

    Args:
        confusion: counts (C, C), rows true.

    Returns:
        sqrt(sum_k r_k (1 - r_k) / n_k) / C over the C classes that have images.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    sizes = counts.sum(1)
    present = sizes > 0
    recall = counts.diagonal()[present] / sizes[present]
    return float(np.sqrt((recall * (1 - recall) / sizes[present]).sum()) / present.sum())


def resampled_sums(counts: IntArray, resamples: int = RESAMPLES, seed: int = 0) -> IntArray:
    """Return sums (B, ...) of counts over units that are resampled with replacement.

    Args:
        counts: counts of each unit (P, ...), such as a person's confusion matrix. For equal P and seed the same
            units are drawn, so that differences are paired.
        resamples: number of resamples B.
        seed: seed of the draws.
    """
    generator = np.random.default_rng(seed)
    units = len(counts)
    flat = counts.reshape(units, -1)
    sums = np.empty((resamples, flat.shape[1]), np.int64)
    for row in range(resamples):  # all draws at once would take gigabytes for a large set
        sums[row] = generator.multinomial(units, np.full(units, 1 / units)) @ flat
    return sums.reshape(resamples, *counts.shape[1:])

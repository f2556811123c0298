"""The statistics of a table: means over seeds and test images with intervals, corrected p-values, McNemar's test.

A table's test images are crossed with its seeds: every seed answers the same images. Both are samples, so the
variance of a mean has three parts (two-way random effects): between seeds, between images, and what is left.

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
IntArray = npt.NDArray[np.int64]

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean over S seeds, or a mean paired difference, and what its variance consists of.

    The variance is ``between / S + image``. Half of the interval is the root of two squares: Student's t of S - 1
    degrees of freedom times the error from the seeds, and the normal quantile times that which the test images add
    to it. So it is never narrower than the t-interval over the seeds. It was chosen for its coverage, see
    experiments/benchmarks/coverage.py.

    Attributes:
        mean: of the seeds' values.
        seeds: S.
        between: variance of the values between seeds, n - 1 in the denominator; NaN for fewer than two.
        image: variance that the draw of the test images adds however many seeds there are; 0 where it is unknown.
    """

    mean: float
    seeds: int
    between: float
    image: float = 0.0

    @property
    def error(self) -> float:
        """Standard error; NaN for fewer than two seeds."""
        return math.sqrt(self.between / self.seeds + self.image) if self.seeds else math.nan

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.mean - self.half_width()

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.mean + self.half_width()

    def half_width(self, level: float = LEVEL, seeds: int | None = None) -> float:
        """Half of the interval; NaN for fewer than two seeds.

        Args:
            level: of confidence.
            seeds: as it would be with so many, all else as it is.
        """
        count = self.seeds if seeds is None else seeds
        if self.seeds < 2:
            return math.nan
        quantile = (1 + level) / 2
        return math.hypot(
            float(special.stdtrit(count - 1, quantile)) * math.sqrt(self.between / count),
            float(special.ndtri(quantile)) * math.sqrt(self.image),
        )

    def bound(self, level: float = LEVEL) -> float:
        """The largest absolute value inside the interval."""
        return abs(self.mean) + self.half_width(level)

    @property
    def p(self) -> float:
        """Two-sided: one minus the level whose interval ends at zero; NaN for fewer than two seeds."""
        if self.seeds < 2:
            return math.nan
        below, above = 0.0, 1.0
        for _ in range(60):
            middle = (below + above) / 2
            below, above = (below, middle) if self.half_width(1 - middle) < abs(self.mean) else (middle, above)
        return above

    def seeds_to_settle(self, level: float = LEVEL, least: int = 2) -> int | None:
        """Fewest seeds whose interval would leave out zero if mean and variances stayed as they are.

        Returns:
            None where no number of seeds does, since the draw of the test images alone hides the difference.
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
    """A mean over seeds with its variance's parts; class sizes are taken as fixed.

    The images' part is that of a two-way analysis of variance in each class: the mean square of the images less
    that of what only some seeds do with an image, which the seeds' own variance has in it already.

    Args:
        values: (S,) of a metric, or of its paired differences.
        influences: (S, n) what each picture adds to each value, up to a constant of its class, see
            ``predictions.Pictures.influences``; None: the images' part stays unknown.
        labels: (n,) class indices. A class of one picture says nothing of its variance and adds none.
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


def holm(p_values: Sequence[float] | FloatArray) -> list[float]:
    """p-values of a family, corrected so that the chance of any false rejection is as said (Holm 1979)."""
    order = np.argsort(p_values)
    stepwise = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepwise), 1)
    return corrected.tolist()


def simultaneous(count: int) -> float:
    """Level of each of so many intervals that together hold with 95 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(count, 1)


class McNemar(NamedTuple):
    """Two checkpoints on the same pictures.

    Attributes:
        both: pictures that both get right.
        first: pictures that only the first gets right.
        second: pictures that only the second gets right.
        neither: pictures that both get wrong.
        p: exact, two-sided: were both as good, ``first`` would be binomial.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test (1947) of two checkpoints, (n,) whether each gets each picture right."""
    from scipy.stats import binomtest

    both, only_first, only_second, neither = (
        int(outcome.sum()) for outcome in (first & second, first & ~second, second & ~first, ~first & ~second)
    )
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return McNemar(both, only_first, only_second, neither, p)


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

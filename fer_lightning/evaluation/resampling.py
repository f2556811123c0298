"""Intervals over test images: confusion matrices of resampled images, and percentiles of their values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 2000


def resampled_confusions(
    confusion: npt.NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Return confusion matrices (B, C, C) of test images resampled with replacement, class sizes fixed.

    Args:
        confusion: counts (C, C), rows true.
        resamples: number of resamples B.
        seed: seed of the draws.
    """
    generator = np.random.default_rng(seed)
    drawn = np.zeros((resamples, *confusion.shape), np.int64)
    for label, row in enumerate(confusion):
        if size := int(row.sum()):
            drawn[:, label] = generator.multinomial(size, row / size, resamples)
    return drawn


def percentile_interval(values: npt.NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the percentile interval of resampled values; NaN where one of them is."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

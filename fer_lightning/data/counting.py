"""Counting in arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def occurrences(values: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """How often each of the values (N,) occurred before it."""
    by_value = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[by_value], return_index=True, return_counts=True)
    found = np.empty(len(values), np.int64)
    found[by_value] = np.arange(len(values)) - np.repeat(first, counts)
    return found

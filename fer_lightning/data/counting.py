"""Counting: the progress of work over items, and the occurrences of values in arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Callback that receives (items done, all items)."""


def with_progress(items: Collection[T], progress: Progress | None) -> Iterator[T]:
    """Yield the items, and report each as done once the next one is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        if progress:
            progress(done, len(items))


def occurrences(values: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return how often each of the values (N,) occurs before its own position, as (N,)."""
    by_value = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[by_value], return_index=True, return_counts=True)
    result = np.empty(len(values), np.int64)
    result[by_value] = np.arange(len(values)) - np.repeat(first, counts)
    return result

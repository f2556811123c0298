"""Progress with time left: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

log = logging.getLogger(__name__)


def track(items: Iterable[T], what: str) -> Iterable[T]:
    """The items, with a bar that shows how many of all are done and the time left."""
    bar: Iterable[T] = tqdm(items, desc=what, leave=False, disable=not sys.stderr.isatty())
    return bar


class Line:
    """Called with (done, of all): says how far a long preparation is, at most every ten seconds.

    Args:
        what: is being done.
        every: seconds between two lines.
    """

    def __init__(self, what: str, every: float = 10.0) -> None:
        self.what = what
        self.every = every
        self.begin = self.told = time.monotonic()
        self.first = self.done = self.total = 0

    def __call__(self, done: int, total: int) -> None:
        """Say so, if it is time."""
        now = time.monotonic()
        if (
            total != self.total or done < self.done
        ):  # it begins, or goes on where it was stopped; or something else is counted now
            self.begin, self.first, self.total = now, done, total
        elif done > self.first and now - self.told >= self.every:
            self.told = now
            left = (now - self.begin) / (done - self.first) * (total - done)
            log.info("%s: %d of %d, %.0f s left", self.what, done, total, left)
        self.done = done


def duration(seconds: float) -> str:
    """Hours and minutes, minutes, or seconds."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

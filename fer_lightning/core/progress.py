"""Progress with the time left: a bar on a terminal, and a line from time to time in the log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

log = logging.getLogger(__name__)


class Countable(Protocol[T_co]):
    """Items of known number, such as those of a list or a DataLoader."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T_co]: ...


def track(items: Countable[T], description: str) -> Iterator[T]:
    """Yield the items, and show how many are done and the time left: a bar, or lines without a terminal."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, leave=False)
        return
    progress = Line(description)
    progress(0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        progress(done, len(items))


class Line:
    """Callback that logs the progress of a long preparation and the time left, at most every ten seconds.

    Args:
        description: the preparation, e.g. ``faces``.
        every: seconds between two lines.
    """

    def __init__(self, description: str, every: float = 10.0) -> None:
        self.description = description
        self.every = every
        self.begin = self.logged = time.monotonic()
        self.first = self.done = self.total = 0

    def __call__(self, done: int, total: int) -> None:
        """Log the progress if the last line is old enough.

        Args:
            done: number of items that are done. The first call gives those done before this process began.
            total: number of all items; another number begins a new count.
        """
        now = time.monotonic()
        if total != self.total or done < self.done:
            self.begin, self.first, self.total = now, done, total
        elif done > self.first and now - self.logged >= self.every:
            self.logged = now
            left = (now - self.begin) / (done - self.first) * (total - done)
            log.info("%s: %d of %d, %.0f s left", self.description, done, total, left)
        self.done = done


@contextmanager
def followed(file: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Show the lines that another process writes to a file while the block runs, each soon after it is written."""
    file.touch()
    ended = threading.Event()

    def follow() -> None:
        with file.open(encoding="utf-8", errors="replace") as stream:
            rest, last = "", False
            while not last:
                last = ended.wait(0.5)  # what was written just before the end is read once more
                *lines, rest = (rest + stream.read()).split("\n")
                for line in lines:
                    show(line)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def duration(seconds: float) -> str:
    """Return a time in seconds as hours and minutes, minutes, or seconds."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

"""A manifest's faces as tasks, and the processes that work on them."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

import pyarrow as pa

from fer_lightning.data.crop import Box, Recipe, Task, start_worker
from fer_lightning.data.manifest import Manifest
from fer_lightning.errors import UserError

R = TypeVar("R")

ROWS_WORTH_A_PROCESS = 1000


def processes_for(rows: int) -> int:
    """How many processes pay off: one for each CPU, fewer for a small set."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, max(1, math.ceil(rows / ROWS_WORTH_A_PROCESS)))


def tasks(manifest: Manifest, chunks: Sequence[pa.Table], recipe: Recipe) -> Iterator[Task]:
    """A task for each chunk of rows; the rows are one split's, in the manifest's order."""
    pictures = manifest.pictures([path for chunk in chunks for path in chunk["path"].to_pylist()])
    for chunk in chunks:
        yield Task(manifest.root, list(islice(pictures, len(chunk))), _boxes(chunk), recipe)


def _boxes(chunk: pa.Table) -> list[Box | None]:
    columns = [chunk[name].to_pylist() for name in ("x", "y", "width", "height")]
    return [None if None in box else box for box in zip(*columns, strict=True)]


@contextmanager
def workers(work: Callable[[Task], R], count: int) -> Iterator[Callable[[Iterable[Task]], Iterator[R]]]:
    """A map over tasks that keeps their order and holds few results at a time; one process is this one.

    Raises:
        UserError: a process died.
    """
    if count == 1:
        yield lambda given: map(work, given)
        return
    with ProcessPoolExecutor(count, get_context("spawn"), start_worker) as pool:

        def in_order(given: Iterable[Task]) -> Iterator[R]:
            waiting: deque[Future[R]] = deque()
            for task in given:
                waiting.append(pool.submit(work, task))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield in_order
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a process that reads pictures died: out of memory (ask for fewer processes), or started by a "
                    "script without an `if __name__ == '__main__':` around what it does"
                ) from error
            raise

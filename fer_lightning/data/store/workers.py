"""Worker processes that read pictures."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar

from fer_lightning.core.errors import UserError
from fer_lightning.core.processes import signals_held_back
from fer_lightning.data.store.crop import start_worker

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(pictures: int, worth: int = 1000) -> int:
    """Return how many processes pay off: one per core, but no more than one per ``worth`` pictures."""
    return min(cores(), max(1, math.ceil(pictures / worth)))


@contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Delay Ctrl-C until the block ends; processes that start in it ignore Ctrl-C, since their parent handles it.

    They inherit the signal mask of this thread. The mask alone does not protect this process: another of its
    threads may receive the signal, and Python then interrupts the main thread, which leaves a half-started worker
    behind.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    with signals_held_back(signal.SIGINT):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def workers(work: Callable[[T], R], count: int) -> Iterator[Callable[[Iterable[T]], Iterator[R]]]:
    """Provide a map over tasks that keeps their order and holds few results at a time.

    Args:
        work: function to apply to each task.
        count: number of processes; 1 works in this process.

    Yields:
        A function from tasks to an iterator of results.

    Raises:
        UserError: a process died.
    """
    if count == 1:
        yield lambda tasks: map(work, tasks)
        return
    earlier = active_children()
    with ProcessPoolExecutor(count, get_context("spawn"), start_worker) as pool:

        def in_order(tasks: Iterable[T]) -> Iterator[R]:
            waiting: deque[Future[R]] = deque()
            for task in tasks:
                with interrupt_held_back():  # this may start a worker
                    waiting.append(pool.submit(work, task))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield in_order
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()).difference(earlier):
                worker.terminate()  # else the pool waits for its current task
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a process that reads pictures died: it ran out of memory (use fewer processes), or the "
                    "script that started it has no `if __name__ == '__main__':` around its code"
                ) from error
            raise

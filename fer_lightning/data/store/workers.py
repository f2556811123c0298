"""The processes that pictures are worked on by."""

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
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(pictures: int, worth: int = 1000) -> int:
    """How many processes pay off: one a core, but no more than one for each ``worth`` pictures."""
    return min(cores(), max(1, math.ceil(pictures / worth)))


@contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Ctrl-C comes after the block; processes that are started in it never see it: it is their parent's.

    They have the mask from this thread. The mask alone does not spare this process: another of its threads may be
    handed the signal, and Python then interrupts the main thread, which leaves a half-started worker behind.
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
    """A map over tasks that keeps their order and holds few results at a time; one process is this one.

    Raises:
        UserError: a process died.
    """
    if count == 1:
        yield lambda given: map(work, given)
        return
    others = active_children()
    with ProcessPoolExecutor(count, get_context("spawn"), start_worker) as pool:

        def in_order(given: Iterable[T]) -> Iterator[R]:
            waiting: deque[Future[R]] = deque()
            for task in given:
                with interrupt_held_back():  # a worker may be started here
                    waiting.append(pool.submit(work, task))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield in_order
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()).difference(others):
                worker.terminate()  # what it is at would be waited for
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a process that reads pictures died: out of memory (ask for fewer processes), or started by a "
                    "script without an `if __name__ == '__main__':` around what it does"
                ) from error
            raise

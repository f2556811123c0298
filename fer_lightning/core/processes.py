"""Processes that end together with the process that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

GRACE = 5.0
"""Seconds between SIGTERM, which asks a process to end, and SIGKILL."""

ENDS_WITH_PARENT = "FER_ENDS_WITH_PARENT"
"""Environment variable of a run that must not outlive the process that started it."""


@contextmanager
def signals_held_back(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Hold back signals that this process handles in Python, so that none interrupts the block.

    Signals interrupt the main thread only; in other threads this does nothing.

    Args:
        numbers: numbers of the signals.

    Yields:
        A function that delivers the signals held back so far and holds back no more. It is also called at the end
        of the block.
    """
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    held: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))

    def deliver() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        while held:
            signal.raise_signal(held.pop(0))

    try:
        yield deliver
    finally:
        deliver()


def end_with_parent(parent: int | None = None) -> None:
    """End this process, from a thread that watches, once the process that started it has ended.

    Args:
        parent: id of the process that started this one, if it may have ended already.
    """
    parent = os.getppid() if parent is None else parent
    requester = parent_process()  # differs from the parent if a fork server started this process on request
    if requester is not None and requester.pid == parent:
        requester = None  # the same process; for joblib's workers only its id is known

    def is_needed() -> bool:
        return os.getppid() == parent and (requester is None or requester.is_alive())

    def watch() -> None:
        while is_needed():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()

"""Processes that end with those who started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

GRACE = 5.0
"""Seconds that a process has to end by itself once it should, before it is made to."""

ENDS_WITH_PARENT = "FER_ENDS_WITH_PARENT"
"""Set in the environment of a run that is not to outlive who started it."""


@contextmanager
def signals_held_back(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Hold back signals that this process handles in Python, so that none comes in the middle of something.

    Only the main thread is interrupted by signals; in others this does nothing.

    Args:
        numbers: of the signals.

    Yields:
        A function that lets them through from now on, those that came first. The end of the block does, too.
    """
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    held: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))

    def let_through() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        while held:
            signal.raise_signal(held.pop(0))

    try:
        yield let_through
    finally:
        let_through()


def end_with_parent(parent: int | None = None) -> None:
    """From now on, end when the process that started this one is gone; its children do the same in their turn.

    Args:
        parent: who that is, where it may be gone already.
    """
    parent = os.getppid() if parent is None else parent
    asked_by = parent_process()  # of a fork server's children it is who asked for them, and not the server
    if asked_by is not None and asked_by.pid == parent:
        asked_by = None  # nobody else to watch; and joblib's workers know no more of it than its number

    def is_there() -> bool:
        return os.getppid() == parent and (asked_by is None or asked_by.is_alive())

    def watch() -> None:
        while is_there():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()

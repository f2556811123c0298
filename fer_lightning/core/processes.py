"""Processes that end with those who started them."""

from __future__ import annotations

import os
import signal
import threading
import time

GRACE = 5.0
"""Seconds that a process has to end by itself once it should, before it is made to."""

ENDS_WITH_PARENT = "FER_ENDS_WITH_PARENT"
"""Set in the environment of a run that is not to outlive who started it."""


def end_with_parent(parent: int | None = None) -> None:
    """From now on, end when the process that started this one is gone; its children do the same in their turn.

    Args:
        parent: who that is, where it may be gone already.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()

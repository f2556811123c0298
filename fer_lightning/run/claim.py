"""A run's folder while it is trained: held by one process, and what it says of a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fer_lightning.core.errors import Busy, Stopped, UserError, in_words
from fer_lightning.core.files import write_atomic

FAILURE = "failed.json"
"""What a run says that ended by itself without a result."""

_LOCK = ".lock"


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold a run's folder while it is trained; what an earlier failure left there goes.

    Raises:
        Busy: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=1)  # who asks whether a run is being trained holds it for a moment
    except Timeout as error:
        raise Busy(f"{directory}: another process trains this run at the moment") from error
    try:
        (directory / FAILURE).unlink(missing_ok=True)
        yield
        Path(lock.lock_file).unlink(missing_ok=True)  # complete: who waited for the lock will see that
    finally:
        lock.release()


def is_claimed(directory: Path) -> bool:
    """Whether a process is at this run now."""
    path = directory / _LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def failure_noted(directory: Path | None) -> Iterator[None]:
    """Write down in a run's folder why it ended without a result, unless something else ended it."""
    try:
        yield
    except (Stopped, Busy):
        raise
    except Exception as error:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            said = str(error) if isinstance(error, UserError) else in_words(error)
            write_atomic(directory / FAILURE, json.dumps({"said": said, "when": time.time()}) + "\n")
        raise


def read_failure(directory: Path) -> str | None:
    """Why a run ended without a result, or None where it did not end by itself."""
    path = directory / FAILURE
    return str(json.loads(path.read_text())["said"]) if path.exists() else None

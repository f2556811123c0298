"""Folder of a run: the lock of the process that trains it, and the message of a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fer_lightning.core.errors import Busy, Stopped, UserError, in_words
from fer_lightning.core.files import remove_partial, write_atomic

FAILURE = "failed.json"
"""File with the message of a run that failed."""

_LOCK = ".lock"
_SECONDS = ".seconds"
"""File with the seconds that the processes of an interrupted run have taken."""


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while it is trained, and remove the message of an earlier failure.

    Raises:
        Busy: another process holds the lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=1)  # ``is_claimed`` holds it for a moment
    except Timeout as error:
        raise Busy(f"{directory}: another process trains this run at the moment") from error
    try:
        (directory / FAILURE).unlink(missing_ok=True)
        remove_partial(directory)
        yield
        Path(lock.lock_file).unlink(
            missing_ok=True
        )  # the run is complete, as a process that waits for the lock will see
    finally:
        lock.release()


def is_claimed(directory: Path) -> bool:
    """Return whether a process trains this run now."""
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
    """Write the message of an exception to a run's folder, unless something else stopped the run."""
    try:
        yield
    except (Stopped, Busy):
        raise
    except Exception as error:
        if directory is not None:
            note_failure(directory, str(error) if isinstance(error, UserError) else in_words(error))
        raise


def note_failure(directory: Path, message: str) -> None:
    """Write why a run failed to its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / FAILURE, json.dumps({"said": message, "when": time.time()}) + "\n")


def seconds_before(directory: Path) -> float:
    """Return the seconds that earlier processes of an interrupted run have taken."""
    try:
        return float((directory / _SECONDS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0.0


def keep_seconds(directory: Path, seconds: float | None) -> None:
    """Keep the seconds that a run has taken so far, for the next process; None: it is complete."""
    if seconds is None:
        (directory / _SECONDS).unlink(missing_ok=True)
    else:
        write_atomic(directory / _SECONDS, f"{seconds:.3f}\n")


def read_failure(directory: Path) -> str | None:
    """Return the message of a run that failed, or None if it did not."""
    path = directory / FAILURE
    return str(json.loads(path.read_text(encoding="utf-8"))["said"]) if path.exists() else None

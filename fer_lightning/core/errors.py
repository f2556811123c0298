"""Errors that are reported in one line: mistakes of the user, and runs that failed or were stopped."""

from __future__ import annotations

import difflib
import errno
import io
import logging
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # EFBIG: a limit on the size of files


class UserError(Exception):
    """Mistake that the user can correct. The message says what is wrong, where, and what to do about it.

    The command line prints it as ``fer: <message>`` and exits with ``code``; no traceback is shown.
    """

    code: ClassVar[int] = 2


class RunFailed(UserError):  # noqa: N818  (an outcome of a run)
    """Run that failed by itself; the same command would fail again."""

    code = 1


class Stopped(UserError):  # noqa: N818  (an outcome of a run)
    """Run that something else stopped, such as a signal or a full disk; the same command continues it."""

    code = 74


class NoSpace(Stopped):
    """Run that a full disk stopped."""


class Busy(UserError):  # noqa: N818  (an outcome of a run)
    """Run that another process is training now."""

    code = 75


@dataclass
class Outcome:
    """Exit code of a command: 0, or the ``code`` of the UserError that was reported."""

    code: int = 0


@contextmanager
def report() -> Iterator[Outcome]:
    """Run a command: show log messages, and report a UserError or a full disk as one line on stderr.

    Yields:
        The outcome, which holds the exit code once the block has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal's encoding lacks is printed as an escape
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("fer_lightning").setLevel(logging.INFO)
    outcome = Outcome()
    try:
        with stopped_by_a_full_disk():
            yield outcome
    except UserError as error:
        sys.stderr.write(f"fer: {' '.join(str(error).split())}\n")  # in one call, since ranks share stderr
        outcome.code = error.code


@contextmanager
def stopped_by_a_full_disk() -> Iterator[None]:
    """Raise NoSpace, with what to do about it, if there is no space left to write to.

    Raises:
        NoSpace: a write failed for lack of space.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise NoSpace(f"{error}; free some space and run the same again") from error


def in_words(error: BaseException) -> str:
    """Return the type and the message of an exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def in_one_line(what: str, *, own: bool) -> Iterator[None]:
    """Turn an exception of a configured class or function into a UserError that begins with ``what``.

    Args:
        what: the group of the config, or another beginning of the message.
        own: whether the code is the user's own. In our code only a ValueError is about its arguments; every other
            exception is a fault of ours, and is not caught.

    Raises:
        UserError: the code failed; for the user's own code the message names the line.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if own:
            raise UserError(f"{what}: {type(error).__name__}: {error}{_location(error)}") from error
        if isinstance(error, ValueError):
            raise UserError(f"{what}: {error}") from error
        raise


def _location(error: Exception) -> str:
    """Return the innermost line of the traceback that is neither ours nor Python's nor an installed package's."""
    not_the_users = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and not frame.filename.startswith(not_the_users):
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return a hint at the known key most like a misspelt one, to end a sentence; empty if none is similar."""
    close = difflib.get_close_matches(key, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""

"""What a user did wrong, or what went wrong with a run, told in one line."""

from __future__ import annotations

import difflib
import errno
import logging
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a limit on what may be written


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong, where, and what to do about it.

    The command line prints it as ``fer: <message>`` and exits with ``code``; no traceback is shown.
    """

    code: ClassVar[int] = 2


class RunFailed(UserError):  # noqa: N818
    """A run that ended by itself without a result. The same command would do the same again."""

    code = 1


class Stopped(UserError):  # noqa: N818
    """A run that was ended by something else: a signal, a full disk. The same command goes on with it."""

    code = 74


class Busy(UserError):  # noqa: N818
    """A run that another process is training now."""

    code = 75


@dataclass
class Outcome:
    """What a command ends with: 0, or the code of what the user was told."""

    code: int = 0


@contextmanager
def report() -> Iterator[Outcome]:
    """Run a command: show what is logged, turn a UserError into one line on stderr and its exit code.

    So is a full disk, wherever it shows.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("fer_lightning").setLevel(logging.INFO)
    outcome = Outcome()
    try:
        with stopped_by_a_full_disk():
            yield outcome
    except UserError as error:
        sys.stderr.write(f"fer: {' '.join(str(error).split())}\n")  # at once: ranks share it
        outcome.code = error.code


@contextmanager
def stopped_by_a_full_disk() -> Iterator[None]:
    """Say what to do where there is no space to write to.

    Raises:
        Stopped: there is none.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise Stopped(f"{error}; free some space and run the same again") from error


def in_words(error: BaseException) -> str:
    """An exception in one line: its kind and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def in_one_line(what: str, *, own: bool) -> Iterator[None]:
    """Make a UserError of what a class or function refuses; it begins with ``what``.

    Args:
        what: a group of the config.
        own: whether it is code of the user's own. In ours, only a ValueError is about what it was given; anything
            else is a fault of ours, and stays as it is.

    Raises:
        UserError: for the user's own code it says where.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if own:
            raise UserError(f"{what}: {type(error).__name__}: {error}{_place(error)}") from error
        if isinstance(error, ValueError):
            raise UserError(f"{what}: {error}") from error
        raise


def _place(error: Exception) -> str:
    """Where it happened: the innermost line that is neither ours nor Python's nor in an installed package."""
    others = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and not frame.filename.startswith(others):
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """The known key that is nearest to a misspelt one, as the end of a sentence; empty where none is near."""
    close = difflib.get_close_matches(key, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""

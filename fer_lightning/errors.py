"""What a user did wrong, or what went wrong with a cell, told in one line."""

from __future__ import annotations

import logging
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong, where, and what to do about it.

    The command line prints it as ``fer: <message>`` and exits with ``code``; no traceback is shown.
    """

    code: ClassVar[int] = 2


class CellFailed(UserError):  # noqa: N818  (it need not be the user's error)
    """A cell that cannot be trained to its end, although nothing it was given could be refused."""

    code = 1


@dataclass
class Outcome:
    """What a command ends with: 0, or the code of a UserError."""

    code: int = 0


@contextmanager
def report() -> Iterator[Outcome]:
    """Run a command: show what is logged, turn a UserError into one line on stderr and its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger(__package__).setLevel(logging.INFO)
    outcome = Outcome()
    try:
        yield outcome
    except UserError as error:
        sys.stderr.write(f"fer: {' '.join(str(error).split())}\n")  # at once: ranks share it
        outcome.code = error.code


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
    others = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), "<")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and not frame.filename.startswith(others):
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""

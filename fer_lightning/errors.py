"""What a user did wrong, told in one line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong, where, and what to do about it.

    The command line prints it as ``fer: <message>`` and exits with 2; no traceback is shown.
    """


@dataclass
class Outcome:
    """What a command ends with: 0, or 2 after a user's mistake."""

    code: int = 0


@contextmanager
def report() -> Iterator[Outcome]:
    """Run a command: show what is logged, turn a UserError into one line on stderr and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger(__package__).setLevel(logging.INFO)
    outcome = Outcome()
    try:
        yield outcome
    except UserError as error:
        print(f"fer: {' '.join(str(error).split())}", file=sys.stderr)
        outcome.code = 2

"""An argparse parser that reports a mistake in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from fer_lightning.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """ArgumentParser that raises a UserError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as a UserError.

        Args:
            message: argparse's message.

        Raises:
            UserError: always.
        """
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown.startswith("--") and "=" in unknown.split()[0]:
            message = f"{message}; write {unknown.split()[0].lstrip('-')}"
        raise UserError(f"{self.prog}: {message}; `{self.prog} --help` says what there is")

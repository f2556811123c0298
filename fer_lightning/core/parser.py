"""Options of a command line, as argparse reads them; a mistake is one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from fer_lightning.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises a UserError where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises:
            UserError: always.
        """
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown.startswith("--") and "=" in unknown:
            message = f"{message}; write {unknown.split()[0].lstrip('-')}"
        raise UserError(f"{self.prog}: {message}; `{self.prog} --help` says what there is")

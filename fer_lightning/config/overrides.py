"""The words of a command line, by Hydra's grammar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from fer_lightning.core.errors import UserError


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words about runs, and those about Hydra itself."""
    of_hydra = [word for word in words if word.startswith(("hydra.", "hydra/"))]
    return [word for word in words if word not in of_hydra], of_hydra


def parse(words: Sequence[str]) -> list[Override]:
    """Words by Hydra's grammar.

    Raises:
        UserError: one cannot be parsed.
    """
    try:
        return OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise UserError(f"{str(error).splitlines()[0]}; write key=value") from error


def quoted(value: object) -> str:
    """A value as Hydra's grammar takes it, whatever characters are in it."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def search_path(folders: Sequence[Path]) -> list[str]:
    """The word that makes Hydra look for options in more folders; none where there are none."""
    return [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders)}]"] if folders else []

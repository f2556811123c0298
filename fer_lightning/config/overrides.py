"""Words of a command line in Hydra's grammar."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from fer_lightning.core.errors import UserError

RUN_DIR, SWEEP_DIR = "hydra.run.dir", "hydra.sweep.dir"

_QUOTED_KEY = re.compile(r"""([{,]\s*)(["'])([\w ./+-]+)\2(\s*:)""", re.ASCII)
_HOME = re.compile(r"~[\w.-]*(/[^'\"]*)?")


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words about runs, and those about Hydra itself."""
    of_hydra = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    return [word for word in words if word not in of_hydra], of_hydra


def parse(words: Sequence[str]) -> list[Override]:
    """Parse words by Hydra's grammar.

    Raises:
        UserError: A word cannot be parsed; the message says how to write it.
    """
    parser, parsed = OverridesParser.create(), []
    for index, word in enumerate(readable(words)):
        try:
            parsed.append(parser.parse_override(word))
            if not parsed[-1].key_or_group:
                raise HydraException("a key without a name, which the grammar allows")
        except HydraException as error:
            raise UserError(_how_to_write(words[index], words[index + 1 :], parser)) from error
    return parsed


def require_names(words: Sequence[str], groups: Container[str]) -> None:
    """Refuse words that choose something else than a name in a group, such as a number.

    Raises:
        UserError: There is such a word, or a word cannot be parsed.
    """
    for override in parse(words):
        value = override.value()
        chosen = value if isinstance(value, list) else [value]
        wrong = any(isinstance(choice, (int, float, dict, type(None))) for choice in chosen)
        if override.key_or_group in groups and wrong and not override.is_delete():
            raise UserError(
                f"{override.input_line}: choose one of the group's options by its name, e.g. loss=cluster"
            )


def _how_to_write(word: str, after: Sequence[str], parser: OverridesParser) -> str:
    """Return what is wrong with a word that cannot be parsed, and a word that can."""
    key, equals, value = word.partition("=")
    if not key.strip(" +~@"):
        return f"{word}: write group=option or key=value, without spaces"
    if word.endswith(",") and after and "=" not in after[0]:
        return f"{word}: a list of choices goes without spaces: {word}{after[0]}"
    if word.startswith("-"):
        return f"{word}: there is no such option" + (f"; write {word.lstrip('-')}" if equals else "")
    if not equals:
        return f"{word}: write group=option or key=value"
    suggested = f"{key}={quoted(value)}"
    try:
        parser.parse_override(suggested)
    except HydraException:
        return f"{word}: {key!r} is no name of a group or key; write group=option or key=value"
    return f"{word}: put quotes around the value: {for_the_shell(suggested)}"


def for_the_shell(word: str) -> str:
    """Return a word as it is typed in a shell."""
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def readable(words: Iterable[str]) -> list[str]:
    """Return words with quotes as Hydra wants them: around ``~/x``, and not around keys as in {"0": x}."""
    return [_with_plain_keys(_with_home(word)) for word in words]


def _with_plain_keys(word: str) -> str:
    return _QUOTED_KEY.sub(r"\1\3\4", word) if "={" in word else word


def _with_home(word: str) -> str:
    key, _, value = word.partition("=")
    choices = value.split(",")
    if not any(map(_HOME.fullmatch, choices)):
        return word
    return f"{key}={','.join(quoted(choice) if _HOME.fullmatch(choice) else choice for choice in choices)}"


def refuse(words: Iterable[str], unused: Callable[[str], bool], command: str, takes: str) -> None:
    """Refuse words that a command would not use.

    Args:
        words: Words that begin with ``hydra``.
        unused: Function that returns whether the command does not use a key.
        command: Name of the command, for the message.
        takes: Words that the command takes instead, for the message.

    Raises:
        UserError: There is such a word.
    """
    for word in words:
        if unused(word.partition("=")[0]):
            raise UserError(f"{command} does not use {word}; it takes {takes}")


def quoted(value: object) -> str:
    """Return a value in quotes as Hydra's grammar takes it, whatever characters are in it."""
    # a backslash is read as itself except before a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + ("\\'" if end[2] else ""), str(value)) + "'"


def search_path(folders: Sequence[Path]) -> list[str]:
    """Return the word that makes Hydra look for options in these folders, or no word where there are none."""
    return [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders)}]"] if folders else []

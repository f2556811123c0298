"""The words of a command line: which Hydra has to compose, and which only replace a value in what it composed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError

_REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
"""An interpolation that is the value of another key, and nothing else."""


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


class EntangledError(Exception):
    """Some words cannot be taken apart from the others; Hydra has to compose all of them together."""


_Kind = Literal["option", "choice", "value", "other"]
"""One option of a group; anything else that is about groups; a value; anything else."""


class _Word(NamedTuple):
    """Hydra takes options and choices first, then everything else in its order."""

    kind: _Kind
    key: str
    value: Any


class Reader:
    """Reads words by Hydra's grammar, each once.

    Args:
        folders: where groups are looked for.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._parser = OverridesParser.create()
        self._known: dict[str, _Word] = {}

    def split(self, words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The words that Hydra has to compose, and the values that some keys are to have in the outcome.

        Raises:
            HydraException: a word cannot be parsed.
            EntangledError: what is no choice comes after a value, which it may change again, or a word is about
                Hydra's own settings.
        """
        composed: list[str] = []
        values: dict[str, Any] = {}
        for text in words:
            word = self._read(text)
            if word.key.startswith("hydra") or (values and word.kind == "other"):
                raise EntangledError(text)
            if word.kind == "value":
                values[word.key] = word.value
            else:
                composed.append(text)
        return tuple(composed), values

    def options(self, words: Sequence[str]) -> dict[str, str] | None:
        """The option of each group that words name; None where some are anything else."""
        read = [self._read(text) for text in words]
        return {word.key: word.value for word in read} if all(word.kind == "option" for word in read) else None

    def _read(self, text: str) -> _Word:
        if text not in self._known:
            said = self._parser.parse_override(text)
            key, value = said.key_or_group, said.value()
            is_group = not isinstance(value, dict) and any((folder / key).is_dir() for folder in self._folders)
            is_plain = said.type is OverrideType.CHANGE and said.package is None
            kind: _Kind = "choice" if is_group else "other"
            if is_plain and is_group and isinstance(value, str):
                kind = "option"
            elif is_plain and not is_group and _is_literal(value):
                kind = "value"
            self._known[text] = _Word(kind, key, value)
        return self._known[text]


def _is_literal(value: Any) -> bool:
    """A number, word, truth value or null, or a list of such: no sweep, no dictionary, nothing to be resolved."""
    if isinstance(value, list):
        return all(map(_is_literal, value))
    return value is None or (isinstance(value, bool | int | float | str) and not _is_open(value))


def _is_open(value: Any) -> bool:
    """Whether a value holds an interpolation, or is OmegaConf's mark for a missing one."""
    if isinstance(value, list | dict):
        return any(map(_is_open, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and ("${" in value or value == "???")


class Composed:
    """What Hydra composed, before interpolations are resolved.

    Args:
        nodes: by group.
        choices: the option chosen of each.
    """

    def __init__(self, nodes: dict[Any, Any], choices: dict[str, str]) -> None:
        self.nodes = nodes
        self.choices = choices

    @classmethod
    def of(cls, config: DictConfig) -> Composed:
        """Of a config with Hydra's own settings, see ``hydra.compose``."""
        chosen = config.hydra.runtime.choices
        choices = {group: chosen[group] for group in groups() if group in chosen}
        OmegaConf.set_readonly(config, False)
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        nodes = OmegaConf.to_container(config)
        assert isinstance(nodes, dict)
        return cls(nodes, choices)

    def plain(self, values: dict[str, Any]) -> dict[str, Any]:
        """The resolved configuration with some values replaced; ``choices`` holds the option chosen of each group.

        Raises:
            EntangledError: a key to be replaced is not there, or is a dictionary.
            OmegaConfBaseException: an interpolation cannot be resolved.
        """
        nodes: Any = deepcopy(self.nodes)
        for key, value in values.items():
            above, _, last = key.rpartition(".")
            node = _at(nodes, above)
            if not isinstance(node, dict) or isinstance(node.get(last, {}), dict):
                raise EntangledError(key)
            node[last] = deepcopy(value)
        resolved = _resolved(nodes)
        return {str(group): node for group, node in resolved.items()} | {"choices": dict(self.choices)}


class Parts:
    """What Hydra made of single options, to be put together in other ways than it has seen.

    Only of options that stand alone, as nearly all do: what such a one says is in its group's node, and no more.

    Args:
        folders: where groups are looked for.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._defaults: dict[str, str] = {}
        self._known: dict[tuple[str, str], Any] = {}
        self._last: dict[Any, Any] = {}

    def add(self, options: dict[str, str], composed: Composed) -> None:
        """Keep what was composed of some options, and of the defaults of all other groups."""
        choices = composed.choices
        alone = all(self._stands_alone(group, option) for group, option in choices.items())
        if alone and choices.keys() <= composed.nodes.keys():
            self._defaults |= {group: option for group, option in choices.items() if group not in options}
            self._known |= {(group, option): composed.nodes[group] for group, option in choices.items()}
            self._last = composed.nodes

    def put_together(self, options: dict[str, str]) -> Composed | None:
        """What Hydra would compose of some options; None where that is not known."""
        choices = {group: options.get(group, self._defaults.get(group, "")) for group in groups()}
        if not options.keys() <= choices.keys() or not self._known.keys() >= set(choices.items()):
            return None
        chosen = {group: self._known[group, option] for group, option in choices.items()}
        return Composed({key: chosen.get(key, node) for key, node in self._last.items()}, choices)

    def _stands_alone(self, group: str, option: str) -> bool:
        """Whether an option's file has no package of its own, and no defaults but options of its group like it."""
        paths = [folder / group / f"{option}.yaml" for folder in self._folders]
        text = next((path.read_text("utf-8") for path in paths if path.is_file()), "@")
        listed = re.search(r"^defaults: \[([\w, ]+)\]", text, re.MULTILINE)
        others = set(listed[1].replace(" ", "").split(",")) - {"_self_"} if listed else set()
        return (
            "@" not in text
            and text.count("defaults") == bool(listed)
            and all(self._stands_alone(group, other) for other in others)
        )


def _at(node: Any, path: str) -> Any:
    """What a dotted path leads to; an empty dictionary where there is nothing."""
    for name in path.split(".") if path else ():
        node = node.get(name, {}) if isinstance(node, dict) else {}
    return node


def _resolved(nodes: dict[Any, Any]) -> dict[Any, Any]:
    """Follows interpolations. What another key has is looked up, as that takes OmegaConf 100 times as long."""
    for node, key in list(_open(nodes)):
        reference = _REFERENCE.fullmatch(node[key]) if isinstance(node[key], str) else None
        value = _at(nodes, reference[1]) if reference else {}
        if not _is_literal(value) or isinstance(value, list):
            resolved = OmegaConf.to_container(OmegaConf.create(nodes), resolve=True)
            assert isinstance(resolved, dict)
            return resolved
        node[key] = value
    return nodes


def _open(node: dict[Any, Any]) -> Iterator[tuple[dict[Any, Any], Any]]:
    """Every dictionary and key with a value that is to be resolved."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _open(value)
        elif _is_open(value):
            yield node, key

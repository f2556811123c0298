"""What a config node names with ``_target_``, its arguments, and calling it."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fer_lightning.core.errors import UserError, in_one_line

_OURS = "fer_lightning."
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def is_own(node: Any) -> bool:
    """Whether a config node names code that is not ours."""
    return isinstance(node, dict) and not str(node.get("_target_", _OURS)).startswith(_OURS)


def target(group: str, node: Any) -> Callable[..., Any]:
    """The class or function that a config node's ``_target_`` names.

    Raises:
        UserError: the node has none, or it cannot be imported or called.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{group}: the config says no _target_; choose one of {group}'s options")
    module, _, name = str(node["_target_"]).rpartition(".")
    with in_one_line(f"{group}: {node['_target_']!r} cannot be used", own=True):
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        inspect.signature(found)
    return found


def make(group: str, node: dict[str, Any], *positional: Any, **offered: Any) -> Any:
    """Call what a node configures; of what is ``offered`` by name it gets what it takes.

    Raises:
        UserError: it refuses a value, or is a user's own and fails.
    """
    function = target(group, node)
    taken = {key: value for key, value in offered.items() if key in inspect.signature(function).parameters}
    with in_one_line(group, own=is_own(node)):
        return function(*positional, **taken, **arguments(node))


def arguments(node: dict[str, Any]) -> dict[str, Any]:
    """A config node's own keys."""
    return {key: value for key, value in node.items() if key not in ("_target_", "_source_")}


class Key(NamedTuple):
    """What the value of a key must be, and whether there must be one."""

    hint: Any
    required: bool


def keys_of(function: Callable[..., Any], without: Iterable[str]) -> dict[str, Key]:
    """The parameters that a class or function has, but for some."""
    try:
        typed = typing.get_type_hints(
            function.__init__ if inspect.isclass(function) else function, include_extras=True
        )
    except NameError:  # a name that is imported for type checkers only
        typed = {}
    named = {
        key: value for key, value in inspect.signature(function).parameters.items() if value.kind not in _REST
    }
    return {
        name: Key(typed.get(name, Any), parameter.default is inspect.Parameter.empty)
        for name, parameter in named.items()
        if name not in set(without)
    }

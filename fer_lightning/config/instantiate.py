"""Import what a config node names with ``_target_``, and call it with the node's keys."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from fer_lightning.core.errors import UserError, in_one_line

_OURS = "fer_lightning."


def is_own(node: Any) -> bool:
    """Return whether a config node names code of a user's own."""
    return isinstance(node, dict) and not str(node.get("_target_", _OURS)).startswith(_OURS)


def target(group: str, node: Any) -> Callable[..., Any]:
    """Return the class or function that a config node's ``_target_`` names.

    Raises:
        UserError: The node has none, or it cannot be imported or called.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{group}: the config says no _target_; choose one of {group}'s options")
    module, _, name = str(node["_target_"]).rpartition(".")
    with in_one_line(f"{group}: {node['_target_']!r} cannot be used", own=True):
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        inspect.signature(function)
    return function


def make(group: str, node: dict[str, Any], /, *positional: Any, **offered: Any) -> Any:
    """Call what a node configures.

    Args:
        group: Group of conf/, for messages.
        node: Config with ``_target_`` and the arguments that are given by name.
        positional: Arguments that are given first.
        offered: Arguments of which those are given that the target has parameters for.

    Returns:
        What the target returns.

    Raises:
        UserError: The target refuses a value, or is a user's own and fails.
    """
    function = target(group, node)
    taken = {key: value for key, value in offered.items() if key in inspect.signature(function).parameters}
    with in_one_line(group, own=is_own(node)):
        return function(*positional, **taken, **arguments(node))


def arguments(node: dict[str, Any]) -> dict[str, Any]:
    """Return a config node's keys that are arguments of its target."""
    return {key: value for key, value in node.items() if key not in ("_target_", "_source_")}

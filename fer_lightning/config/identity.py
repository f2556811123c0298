"""What tells one run from another: its choices and numbers, and the data and weights that they meet."""

from __future__ import annotations

from typing import Any

from fer_lightning.core.files import content_hash

_NOT_IDENTITY = {
    "logger": None,
    "optimism": None,
    "choices": {"logger", "trainer"},
    "data": {"root", "store", "workers", "exclude", "redistributable"},
    "backbone": {"weights", "source"},
    "trainer": {"timeout", "started_by"},
}


def identity(config: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
    """What makes a cell this cell: its resolved config without logger, workers and paths, and its protocol.

    The paths' content is in the protocol: hashes of the prepared faces and of the backbone's weights.
    """
    kept: dict[str, Any] = {}
    for group, value in config.items():
        dropped = _NOT_IDENTITY.get(group, set())
        if dropped is None:
            continue
        kept[group] = {k: v for k, v in value.items() if k not in dropped} if isinstance(value, dict) else value
    return {"config": kept, "protocol": protocol}


def cell_name(config: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Folder name of a cell: readable, and the first eight hex digits of its identity's hash."""
    choices = config["choices"]
    readable = f"{choices['loss']}-{choices['class_weights']}-{choices['stage']}-s{config['seed']}"
    return f"{readable}-{content_hash(identity(config, protocol))[:8]}"


def setting(result: dict[str, Any]) -> str:
    """Hash of a result's identity without its seeds: equal for the cells that a row's mean is taken over."""
    config = {key: value for key, value in result["config"].items() if key != "seed"}
    return content_hash(identity(config, result["protocol"]))

"""Identity of a run: its choices and numbers, and the data and weights that they meet."""

from __future__ import annotations

from typing import Any

from fer_lightning.core.files import content_hash

NUMERICS = 2
"""Version of the numbers that a run comes to; part of its protocol.

Raise it when the correction of a fault changes numbers: runs from before and after are then different runs, and a
table refuses to show both. Results that name no version are of version 0.
"""

ADDED_KEYS: dict[str, Any] = {
    "mixing": {"_target_": "fer_lightning.training.mixing.none"},
    "choices.mixing": "none",
    "data.folds": None,
    "data.fold": 0,
    "data.group": None,
    "data.recall_by": None,
    "data.labels": None,
    "data.table": None,
    "data.columns": None,
    "class_weights.weights": None,
    "stage.fine_tuning.cached": None,
    "stage.fine_tuning.views": 0,
    "stage.fine_tuning.views_seed": 0,
}
"""Keys that were added to conf/ later, dotted, each with the value under which a run is what it was without it.

A key with that value is no part of the identity, so that finished runs stay what they are.
"""

_NOT_IDENTITY = {
    "logger": None,
    "optimism": None,
    "choices": {"logger", "trainer"},
    "data": {"root", "store", "workers", "exclude", "redistributable", "follow_links"},
    "backbone": {"weights", "source"},
    "trainer": {"timeout", "started_by"},
}


def identity(config: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a run: its choices and arguments but logger, workers and paths, and its protocol.

    The content of the files at the paths is in the protocol, as hashes of the prepared faces and of the backbone's
    weights. The package's own classes and functions count by their names alone, not by their modules.

    Args:
        config: Resolved configuration.
        protocol: See ``run.build.protocol``.
    """
    identifying: dict[str, Any] = {}
    for group, value in config.items():
        dropped = _NOT_IDENTITY.get(group, set())
        if dropped is None:
            continue
        node = {k: v for k, v in value.items() if k not in dropped} if isinstance(value, dict) else value
        identifying |= _identifying({group: node}, "")
    return {"config": identifying, "protocol": protocol}


def _identifying(node: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a node without added keys that change nothing and without the modules of the package's targets."""
    identifying: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        if path in ADDED_KEYS and ADDED_KEYS[path] == value:
            continue
        if isinstance(value, dict):
            identifying[key] = _identifying(value, f"{path}.")
        elif key == "_target_" and str(value).startswith("fer_lightning."):
            identifying[key] = str(value).rpartition(".")[2]
        else:
            identifying[key] = value
    return identifying


def run_name(config: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Return the folder name of a run: readable, with the first eight hex digits of its identity's hash."""
    choices = config["choices"]
    readable = f"{choices['loss']}-{choices['class_weights']}-{choices['stage']}-s{config['seed']}"
    return f"{readable}-{content_hash(identity(config, protocol))[:8]}"


def setting(config: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Return the hash of a run's identity without its seed: equal for the runs that a row's mean is taken over."""
    return content_hash(identity({key: value for key, value in config.items() if key != "seed"}, protocol))

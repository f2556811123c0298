"""The configuration held against the signatures of what it configures, before anything is loaded."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fer_lightning.config.instantiate import Key, arguments, keys_of, make, target
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.data.dataset import keys_of_batches, keys_of_prepare

_OFFERED = {"data": ("progress",), "backbone": ("pretrained",)}  # arguments that code gives where they are taken


def check(config: dict[str, Any]) -> None:
    """Hold every key and value against the signature of what it configures.

    Raises:
        UserError: a key that nothing takes, a value of the wrong type or out of range, a target that is not there.
    """
    known = {*groups(), "seed", "optimism", "choices"}
    for key in config:
        if key not in known:
            raise UserError(f"config key {key!r}: there is no such group or number{did_you_mean(key, known)}")
    for key in sorted(known - config.keys()):
        raise UserError(f"config key {key!r} is missing: every group and number of conf/config.yaml is needed")
    _check_value("seed", config["seed"], int)
    _check_value("optimism", config["optimism"], bool)
    _check_data(config["data"])
    _check_leaf("class_weights", config["class_weights"], ("counts",), also=_keys_of_weights())
    if config["class_weights"]["from_epoch"] < 0:
        raise UserError("class_weights.from_epoch: must not be negative; it counts the epochs of all stages")
    _check_stage(config["stage"])
    _check_leaf("optimizer", config["optimizer"], ("groups",), also=_keys_of_recipe())
    _check_leaf("schedule", config["schedule"], ("progress",), also={"warmup": Key(float, True)})
    given: dict[str, tuple[str, ...]] = {
        "transform": (),
        "sampler": ("labels", "generator", "progress"),
        "backbone": (),
        "neck": ("feature_dim",),
        "loss": ("feature_dim", "class_stats"),
        "trainer": (),
        "logger": ("directory", "about"),
    }
    for group, names in given.items():
        _check_leaf(group, config[group], names)
    _check_batch(config["data"]["batch_size"], config["trainer"])


def _check_batch(batch_size: int, trainer: dict[str, Any]) -> None:
    """A step's batch goes in equal parts to all ranks and micro-batches, so that means of means are means."""
    ranks, accumulate = trainer["devices"] * trainer["nodes"], trainer["accumulate"]
    if min(batch_size, trainer["devices"], trainer["nodes"], accumulate) < 1:
        raise UserError("data.batch_size, trainer.devices, nodes and accumulate must be at least 1 each")
    if batch_size % (ranks * accumulate):
        raise UserError(
            f"data.batch_size={batch_size} cannot be split evenly over {ranks} ranks (devices x nodes) and "
            f"trainer.accumulate={accumulate} micro-batches; choose a multiple of {ranks * accumulate}"
        )


def _check_data(node: Any) -> None:
    read = inspect.signature(target("data", node)).parameters
    if lacking := [name for name in ("root", "classes") if name not in read]:
        raise UserError(f"data: {node['_target_']} must take root and classes; {lacking[0]} is missing")
    keys = {
        "store": Key(str | None, True),
        "test_split": Key(str | None, True),
        "exclude": Key(str | None, False),
        "classes": Key(list[str], True),
        "redistributable": Key(bool, False),
    }
    _check_leaf("data", node, (), also={**keys_of_prepare(), **keys_of_batches(), **keys})
    if (crop := node.get("crop")) is not None and not 1 <= crop <= node["size"]:
        raise UserError(f"data.crop={crop}: must be 1 to data.size={node['size']}, the side of the kept pictures")


def _check_stage(node: Any) -> None:
    for key, value in node.items():
        if isinstance(value, dict):
            _check_leaf(f"stage.{key}", value, ())
            make(f"stage.{key}", value)
        elif key == "epochs":
            _check_value("stage.epochs", value, int)
        else:
            raise UserError(
                f"stage.{key}: unknown key; it has `epochs` and the stages, each with numbers of its own"
            )


def _check_leaf(group: str, node: Any, given: tuple[str, ...], also: dict[str, Key] | None = None) -> None:
    """Check a node with a ``_target_``: code gives it ``given`` first, and takes the keys ``also`` elsewhere."""
    function, name = target(group, node), node["_target_"]
    first = tuple(inspect.signature(function).parameters)[: len(given)]
    if first != given:
        raise UserError(f"{group}: {name} must take ({', '.join(given)}) first, it takes ({', '.join(first)})")
    keys = {**keys_of(function, {*given, *_OFFERED.get(group, ())}), **(also or {})}
    own = arguments(node)
    for key, value in own.items():
        if key not in keys:
            raise UserError(
                f"{group}.{key}: {name} takes no such key{did_you_mean(key, keys)}; "
                f"it takes {', '.join(keys) or 'none'}"
            )
        _check_value(f"{group}.{key}", value, keys[key].hint)
    for key, (_, required) in keys.items():
        if required and key not in own:
            raise UserError(f"{group}.{key}: is not set, and {name} needs it")


def _check_value(name: str, value: Any, hint: Any) -> None:
    try:
        TypeAdapter(hint, config={"arbitrary_types_allowed": True}).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise UserError(f"{name}={value!r}: {first[0].lower()}{first[1:]}") from error


def _keys_of_weights() -> dict[str, Key]:
    from fer_lightning.training.class_weights import Normalise

    return {"normalise": Key(Normalise, True), "from_epoch": Key(int, True)}


def _keys_of_recipe() -> dict[str, Key]:
    return {
        "part_lr": Key(dict[str, float], True),
        "layer_decay": Key(float, True),
        "ema_decay": Key(float | None, True),
    }

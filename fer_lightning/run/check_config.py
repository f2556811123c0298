"""The configuration held against the signatures of what it configures, before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from fer_lightning.config.instantiate import Key, arguments, keys_of, make, target
from fer_lightning.config.overrides import for_the_shell, quoted
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.core.ranges import Count, InnerShare, Natural, Positive, Seed, Share, UpToOne
from fer_lightning.data.dataset import keys_of_batches, keys_of_prepare

_GIVEN = {
    "class_weights": ("counts",),
    "optimizer": ("groups",),
    "schedule": ("progress",),
    "sampler": ("labels", "generator", "progress"),
    "neck": ("feature_dim",),
    "loss": ("feature_dim", "class_stats"),
    "logger": ("directory", "about"),
}
"""By group, the arguments that code gives first, by position."""

_OFFERED = {"data": ("progress",), "backbone": ("pretrained",)}
"""Arguments that code gives by name where they are taken."""


def _each_once(names: list[str]) -> list[str]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is there twice")
    return names


class _Numbers(BaseModel, extra="ignore", strict=True):
    """What stands beside the groups."""

    seed: Seed
    optimism: bool


class _Epochs(BaseModel, strict=True):
    """What stands beside the stages."""

    epochs: Count


def check(config: dict[str, Any]) -> None:
    """Hold every key and value against the signature of what it configures.

    Raises:
        UserError: a key that nothing takes, a value of the wrong type or out of range, a target that is not there.
    """
    known = {*groups(), *_Numbers.model_fields, "choices"}
    for key in config:
        if key not in known:
            raise UserError(f"config key {key!r}: there is no such group or number{did_you_mean(key, known)}")
    for key in sorted(known - config.keys()):
        raise UserError(f"config key {key!r} is missing: every group and number of conf/config.yaml is needed")
    _validate("", _Numbers, config, "")
    for group in groups():
        if group == "stage":
            _check_stage(config["stage"])
        else:
            _check_node(group, config[group])
    _check_crop(config["data"])
    _check_batch(config["data"]["batch_size"], config["trainer"])


def _check_stage(node: Any) -> None:
    for key, value in node.items():
        if isinstance(value, dict):
            _check_node("stage", value, f"stage.{key}")
            make(f"stage.{key}", value)
        elif key == "epochs":
            _validate("stage", _Epochs, {"epochs": value}, "stage")
        else:
            raise UserError(
                f"stage.{key}: unknown key; it has `epochs` and the stages, each with numbers of its own"
            )


def _check_crop(node: dict[str, Any]) -> None:
    if (crop := node.get("crop")) is not None and crop > node["size"]:
        raise UserError(f"data.crop={crop}: must be 1 to data.size={node['size']}, the side of the kept pictures")


def _check_batch(batch_size: int, trainer: dict[str, Any]) -> None:
    """A step's batch goes in equal parts to all ranks and micro-batches, so that means of means are means."""
    ranks, accumulate = trainer["devices"] * trainer["nodes"], trainer["accumulate"]
    if batch_size % (ranks * accumulate):
        raise UserError(
            f"data.batch_size={batch_size} cannot be split evenly over {ranks} ranks (devices x nodes) and "
            f"trainer.accumulate={accumulate} micro-batches; choose a multiple of {ranks * accumulate}"
        )


def _check_node(group: str, node: Any, place: str = "") -> None:
    """Check a node with a ``_target_`` by what that takes, and by the keys that the group has besides.

    Args:
        group: of conf/.
        node: its configuration.
        place: of the node, where it is not the group's own.
    """
    place = place or group
    function = target(place, node)
    name, parameters = node["_target_"], tuple(inspect.signature(function).parameters)
    given = _GIVEN.get(group, ())
    if parameters[: len(given)] != given:
        got = ", ".join(parameters[: len(given)])
        raise UserError(f"{place}: {name} must take ({', '.join(given)}) first, it takes ({got})")
    if group == "data" and (lacking := [key for key in ("root", "classes") if key not in parameters]):
        raise UserError(f"data: {name} must take root and classes; {lacking[0]} is missing")
    _validate(place, _model(group, function), arguments(node), name)


@cache
def _model(group: str, function: Callable[..., Any]) -> type[BaseModel]:
    """Return a model of the keys that a node of this group and target has, with their types and ranges."""
    keys = keys_of(function, {*_GIVEN.get(group, ()), *_OFFERED.get(group, ())}) | _keys_besides(group)
    fields: Any = {  # by alias, since a parameter may have any name, and a field of pydantic's may not
        f"field_{number}": (hint, Field(... if required else None, alias=name))
        for number, (name, (hint, required)) in enumerate(keys.items())
    }
    rules = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model(group, __config__=rules, **fields)


def _keys_besides(group: str) -> dict[str, Key]:
    """Return the keys of a group that are not given to its target."""
    if group == "data":
        return {
            **keys_of_prepare(),
            **keys_of_batches(),
            "store": Key(str | None, True),
            "test_split": Key(str | None, True),
            "exclude": Key(str | None, False),
            "classes": Key(Annotated[list[str], Field(min_length=2), AfterValidator(_each_once)], True),
            "redistributable": Key(bool, False),
        }
    if group == "class_weights":
        from fer_lightning.training.class_weights import Normalise

        return {"normalise": Key(Normalise, True), "from_epoch": Key(Natural, True)}
    if group == "optimizer":
        return {
            "part_lr": Key(dict[str, Positive], True),
            "layer_decay": Key(UpToOne, True),
            "ema_decay": Key(InnerShare | None, True),
        }
    return {"warmup": Key(Share, True)} if group == "schedule" else {}


def _validate(place: str, model: type[BaseModel], values: dict[str, Any], name: str) -> None:
    """Hold values against a model; ``name`` is what takes them.

    Raises:
        UserError: the first mistake; a misspelt key comes before all others.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
        key = str(first["loc"][0])
        path = ".".join(filter(None, (place, key)))
        known = [field.alias or name for name, field in model.model_fields.items()]
        taken = ", ".join(known) or "none"
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"{path}: {name} takes no such key{did_you_mean(key, known)}; it takes {taken}"
            ) from error
        if first["type"] == "missing":
            raise UserError(f"{path}: is not set, and {name} needs it") from error
        value: Any = values[key]
        for part in first["loc"][1:]:  # of a union it names the types that were tried, too
            if part in (
                value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
            ):
                path, value = f"{path}.{part}", value[part]
        reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if first["type"] == "string_type" and isinstance(value, (int, float)):
            reason = f"{reason}; write {for_the_shell(f'{path}={quoted(value)}')}"
        raise UserError(f"{path}={value!r}: {reason}") from error

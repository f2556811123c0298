"""The configuration, held against the signatures of what it configures before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import BaseModel, Field, ValidationError, create_model

from fer_lightning.config.instantiate import arguments, make, target
from fer_lightning.config.overrides import for_the_shell, quoted
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.core.ranges import Count, InnerShare, Keys, Natural, Normalise, Positive, Seed, Share, UpToOne
from fer_lightning.data.options import DataOptions, require_shared_keys
from fer_lightning.data.split import ALL

_POSITIONAL = {
    "class_weights": ("counts",),
    "optimizer": ("groups",),
    "schedule": ("progress",),
    "sampler": ("labels", "generator", "progress"),
    "neck": ("feature_dim",),
    "loss": ("feature_dim", "class_stats"),
    "logger": ("directory", "about"),
}
"""Arguments by group that code gives first, by position."""

_OFFERED = {"data": ("progress",), "backbone": ("pretrained",), "class_weights": ("class_names",)}
"""Arguments by group that code gives by name where a target takes them."""


class _Numbers(Keys):
    """Keys beside the groups."""

    seed: Seed
    optimism: bool


class _Epochs(Keys):
    """Keys of ``stage`` beside the stages."""

    epochs: Count = 1  # its value is for the stages to refer to


class _ClassWeights(Keys):
    """Keys of ``class_weights`` that are not given to its target."""

    normalise: Normalise
    from_epoch: Natural


class _Optimizer(Keys):
    """Keys of ``optimizer`` that are not given to its target."""

    part_lr: dict[str, Positive]
    layer_decay: UpToOne
    ema_decay: InnerShare | None


class _Schedule(Keys):
    """Keys of ``schedule`` that are not given to its target."""

    warmup: Share


_SHARED: dict[str, type[Keys]] = {
    "data": DataOptions,
    "class_weights": _ClassWeights,
    "optimizer": _Optimizer,
    "schedule": _Schedule,
}
"""Keys by group that all its options have."""


def check(config: dict[str, Any], *, to_train: bool = True) -> None:
    """Check every key and value against the signature of what it configures.

    Args:
        config: Resolved configuration.
        to_train: Whether it is to be trained by; if not, all of a data set may be tested on.

    Raises:
        UserError: A key that nothing takes, a value of the wrong type or out of range, or a target that cannot be
            imported.
    """
    nodes: Any = dict.fromkeys((*groups(), "choices"), (dict[str, Any], ...))
    _validate("", create_model("config", __base__=_Numbers, **nodes), config, "the config")
    for group in groups():
        if group == "stage":
            _check_stages(config["stage"])
        else:
            _check_node(group, config[group])
    _check_crop(config["data"])
    _check_batch(config["data"]["batch_size"], config["trainer"])
    if to_train and config["data"]["test_split"] == ALL:
        raise UserError(
            f"data.test_split={ALL}: all pictures would be tested on and none are left to train on; it is for "
            f"`fer evaluate CHECKPOINT data=... data.test_split={ALL}`"
        )


def _check_stages(node: dict[str, Any]) -> None:
    stages = {name: value for name, value in node.items() if isinstance(value, dict)}
    _validate("stage", _Epochs, {key: node[key] for key in node.keys() - stages.keys()}, "stage beside its stages")
    for name, stage in stages.items():
        _check_node("stage", stage, f"stage.{name}")
        make(f"stage.{name}", stage)


def _check_crop(node: dict[str, Any]) -> None:
    if (crop := node.get("crop")) is not None and crop > node["size"]:
        raise UserError(f"data.crop={crop}: must be 1 to data.size={node['size']}, the side of the kept pictures")


def _check_batch(batch_size: int, trainer: dict[str, Any]) -> None:
    """Check that a step's batch splits evenly over ranks and micro-batches, so that means of means are means."""
    ranks, accumulate = trainer["devices"] * trainer["nodes"], trainer["accumulate"]
    if batch_size % (ranks * accumulate):
        raise UserError(
            f"data.batch_size={batch_size} cannot be split evenly over {ranks} ranks (devices x nodes) and "
            f"trainer.accumulate={accumulate} micro-batches; choose a multiple of {ranks * accumulate}"
        )


def _check_node(group: str, node: Any, path: str = "") -> None:
    """Check a node by what its ``_target_`` takes and by the keys that all options of its group have.

    Args:
        group: Group of conf/.
        node: Config of the group or of a part of it.
        path: Dotted key of the node; empty where it is the group's own.
    """
    path = path or group
    function = target(path, node)
    name, parameters = node["_target_"], tuple(inspect.signature(function).parameters)
    positional = _POSITIONAL.get(group, ())
    if parameters[: len(positional)] != positional:
        first = ", ".join(parameters[: len(positional)])
        raise UserError(f"{path}: {name} must take ({', '.join(positional)}) first, it takes ({first})")
    if group == "data":
        if lacking := [key for key in ("root", "classes") if key not in parameters]:
            raise UserError(f"data: {name} must take root and classes; {lacking[0]} is missing")
        require_shared_keys(node)
    _validate(path, _model(group, function), arguments(node), name)


@cache
def _model(group: str, function: Callable[..., Any]) -> type[BaseModel]:
    """Return a model of the keys that a node of this group and target has, with their types and ranges."""
    shared = _SHARED.get(group, Keys)
    given = {*_POSITIONAL.get(group, ()), *_OFFERED.get(group, ()), *shared.model_fields}
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError:  # a name that is imported for type checkers only
        parameters = inspect.signature(function).parameters
    fields: Any = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            hint, required = parameter.annotation, parameter.default is parameter.empty
            if hint is parameter.empty or isinstance(hint, str):
                hint = Any
            # by alias, since a parameter may have any name and a field may not
            fields[f"field_{number}"] = (hint, Field(... if required else None, alias=name))
    return create_model(group, __base__=shared, **fields)


def _validate(path: str, model: type[BaseModel], values: dict[str, Any], name: str) -> None:
    """Check values against a model.

    Args:
        path: Dotted key of the values.
        model: Model of their keys.
        values: Values by key.
        name: Name of what takes them, for the message.

    Raises:
        UserError: The first mistake; a misspelt key comes before all others.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
        key = str(first["loc"][0])
        path = ".".join(filter(None, (path, key)))
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

"""The configuration: composed by Hydra from conf/, resolved to plain values, checked before anything is loaded."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from fer_lightning.errors import UserError
from fer_lightning.layout import groups, shipped


def compose(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """The resolved configuration for command-line overrides, as plain values.

    Its key ``choices`` holds the option chosen of each group. ``hydra.run.dir`` is not part of it.

    Args:
        overrides: as on the command line of ``fer train``.
        config_dir: a user's folder with further options, searched after conf/.

    Raises:
        UserError: a group, option or key does not exist, or a value cannot be parsed.
    """
    words = list(overrides)
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: no such folder")
        quoted = str(Path(config_dir).resolve()).replace("'", "\\'")
        words.append(f"hydra.searchpath=['file://{quoted}']")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(shipped("conf").resolve()), version_base="1.3"):
            config = hydra_compose("config", words, return_hydra_config=True)
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        assert isinstance(choices, dict)
        OmegaConf.set_readonly(config, False)
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        plain = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(_one_line(error, overrides, config_dir)) from error
    assert isinstance(plain, dict)
    typed: dict[str, Any] = {str(key): value for key, value in plain.items()}
    typed["choices"] = {group: choices[group] for group in groups() if group in choices}
    return typed


def _one_line(error: Exception, overrides: Sequence[str], config_dir: str | None) -> str:
    """Hydra's message without its advice on other things than the mistake."""
    text = str(error)
    if found := re.match(r"Could not override '([\w.]+)'", text):
        return f"{found[1]}: there is no such key{_similar_key(found[1], overrides, config_dir)}"
    if found := re.match(r"Ambiguous value for argument '(.*)'", text):
        return f"{found[1]}: a list of choices is a sweep; say `fer train -m ...` to run them all"
    lines = [line.strip() for line in text.split("Config search path")[0].splitlines()]
    kept = [line for line in lines if line and not line.startswith(("full_key", "object_type"))]
    return (
        re.sub(r"^In '.*?': |,? [Ss]ee https?://\S+.*", "", " ".join(kept))
        + "; `fer train --help` lists all there is"
    )


def _similar_key(key: str, overrides: Sequence[str], config_dir: str | None) -> str:
    others = [word for word in overrides if not word.lstrip("+~").startswith(key)]
    node: Any = compose(others, config_dir)
    *above, last = key.split(".")
    for name in above:
        node = node.get(name) if isinstance(node, dict) else None
    keys = [name for name in node if name != "_target_"] if isinstance(node, dict) else []
    return f"{_did_you_mean(last, keys)}; {'.'.join(above) or 'the config'} has {', '.join(keys) or 'none'}"


def check(config: dict[str, Any]) -> None:
    """Hold every key and value against the signature of what it configures.

    Raises:
        UserError: a key that nothing takes, a value of the wrong type or out of range, a target that is not there.
    """
    known = {*groups(), "seed", "choices"}
    for key in config:
        if key not in known:
            raise UserError(f"config key {key!r}: there is no such group or number{_did_you_mean(key, known)}")
    for key in sorted(known - config.keys()):
        raise UserError(f"config key {key!r} is missing: every group and number of conf/config.yaml is needed")
    _check_value("seed", config["seed"], int)
    _check_data(config["data"])
    _check_leaf("class_weights", config["class_weights"], {"counts"}, also=_hints_for_weights())
    for key in _hints_for_weights().keys() - config["class_weights"].keys():
        raise UserError(f"class_weights.{key}: is not set, and every scheme needs it")
    if config["class_weights"]["from_epoch"] < 0:
        raise UserError("class_weights.from_epoch: must not be negative; it counts the epochs of all stages")
    _check_stage(config["stage"])
    supplied: dict[str, set[str]] = {
        "transform": set(),
        "sampler": {"labels", "generator", "progress"},
        "backbone": {"pretrained"},
        "neck": {"feature_dim"},
        "loss": {"feature_dim", "class_stats"},
        "optimizer": {"parameters", "steps"},
        "trainer": set(),
        "logger": {"directory", "fit", "config"},
    }
    for group, names in supplied.items():
        _check_leaf(group, config[group], names)


def target(group: str, node: Any) -> Callable[..., Any]:
    """The class or function that a config node's ``_target_`` names.

    Raises:
        UserError: the node has none, or it cannot be imported.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{group}: the config says no _target_; choose one of {group}'s options")
    try:
        module, _, name = str(node["_target_"]).rpartition(".")
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise UserError(f"{group}: {node['_target_']!r} cannot be imported: {error}") from error
    return found


def make(group: str, node: dict[str, Any], *positional: Any, **supplied: Any) -> Any:
    """Call what a node configures; its own ValueErrors name the value, here they get the group's name.

    Raises:
        UserError: a value makes no sense.
    """
    try:
        return target(group, node)(*positional, **supplied, **arguments(node))
    except ValueError as error:
        raise UserError(f"{group}: {error}") from error


def arguments(node: dict[str, Any]) -> dict[str, Any]:
    """A config node's own keys."""
    return {key: value for key, value in node.items() if key != "_target_"}


def data_parts(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of ``data`` by who takes them: ``reader``, ``prepare`` and ``batches``."""
    reader = inspect.signature(target("data", node)).parameters
    prepare, batches = (inspect.signature(function).parameters for function in _data_functions())
    own = arguments(node)
    return {
        "reader": {key: value for key, value in own.items() if key in reader},
        "prepare": {key: value for key, value in own.items() if key in prepare},
        "batches": {key: value for key, value in own.items() if key in batches and key not in (*reader, "store")},
    }


def _data_functions() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from fer_lightning.data.datamodule import FaceDataModule
    from fer_lightning.data.prepare import prepare

    return prepare, FaceDataModule


def _check_data(node: Any) -> None:
    hints: dict[str, Any] = {"store": str | None}
    prepare, batches = _data_functions()
    hints |= _hints(prepare, {"manifest", "base", "processes", "progress"})
    hints |= _hints(batches, {"store", "draw", "augment", "seed"})
    _check_leaf("data", node, {"progress"}, also=hints)


def _hints_for_weights() -> dict[str, Any]:
    from fer_lightning.class_weights import Normalise

    return {"normalise": Normalise, "from_epoch": int}


def _check_stage(node: Any) -> None:
    for key, value in node.items():
        if isinstance(value, dict):
            _check_leaf(f"stage.{key}", value, set())
            try:
                target(f"stage.{key}", value)(**arguments(value))
            except ValueError as error:
                raise UserError(f"stage.{key}: {error}") from error
        elif key == "epochs":
            _check_value("stage.epochs", value, int)
        else:
            raise UserError(f"stage.{key}: unknown key; a stage has `epochs` and the fits it consists of")


def _hints(function: Callable[..., Any], without: Iterable[str]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    typed = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    return {name: typed.get(name, Any) for name in parameters if name not in set(without)}


def _check_leaf(group: str, node: Any, supplied: set[str], also: dict[str, Any] | None = None) -> None:
    """Check a node with a ``_target_``; ``supplied`` are the arguments that code gives, ``also`` further keys."""
    function = target(group, node)
    hints = {**_hints(function, supplied), **(also or {})}
    own = arguments(node)
    for key, value in own.items():
        if key not in hints:
            raise UserError(
                f"{group}.{key}: {node['_target_']} takes no such key{_did_you_mean(key, hints)}; "
                f"it takes {', '.join(hints) or 'none'}"
            )
        _check_value(f"{group}.{key}", value, hints[key])
    parameters = inspect.signature(function).parameters
    for name in hints:
        required = name in parameters and parameters[name].default is inspect.Parameter.empty
        if required and name not in own:
            raise UserError(f"{group}.{name}: is not set, and {node['_target_']} needs it")


def _check_value(name: str, value: Any, hint: Any) -> None:
    try:
        TypeAdapter(hint, config={"arbitrary_types_allowed": True}).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise UserError(f"{name}={value!r}: {first[0].lower()}{first[1:]}") from error


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""

"""The configuration: composed by Hydra from conf/, resolved to plain values, checked before anything is loaded."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from fer_lightning.cache import file_hash
from fer_lightning.errors import UserError, in_one_line
from fer_lightning.layout import groups, shipped

_OURS = f"{__package__}."
_OFFERED = {"data": ("progress",), "backbone": ("pretrained",)}  # arguments that code gives where they are taken
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def compose(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """The resolved configuration for command-line overrides, as plain values.

    Its key ``choices`` holds the option chosen of each group. ``hydra.run.dir`` is not part of it. A group whose
    ``_target_`` is not ours gets the key ``_source_``, a hash of that file: edited code makes another cell.

    Args:
        overrides: as on the command line of ``fer train``.
        config_dir: a user's folder with further options, searched after conf/. From now on, code is imported from
            the folder that it lies in, before any other.

    Raises:
        UserError: a group, option, key or file does not exist, or a value cannot be parsed.
    """
    words = list(overrides)
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise UserError(f"--config-dir {config_dir}: no such folder")
        if str(folder.parent) not in sys.path:
            sys.path.insert(0, str(folder.parent))
        quoted = str(folder).replace("'", "\\'")
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
    for group, node in typed.items():
        if is_own(node):
            node["_source_"] = _source(group, str(node["_target_"]), config_dir)
    return typed


def is_own(node: Any) -> bool:
    """Whether a config node names code that is not ours."""
    return isinstance(node, dict) and not str(node.get("_target_", _OURS)).startswith(_OURS)


def _source(group: str, name: str, config_dir: str | None) -> str:
    """A short hash of the file that a class or function is in; it is found without being imported."""
    module = name.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        place = f"in {Path(config_dir).resolve().parent}" if config_dir else "beside the folder of --config-dir"
        raise UserError(f"{group}: {name!r}: there is no module {module!r}; your own files are looked for {place}")
    return file_hash(Path(found.origin))[:8] if found.has_location and found.origin else ""


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
    keys = list(arguments(node)) if isinstance(node, dict) else []
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
    _check_leaf("class_weights", config["class_weights"], ("counts",), also=_keys_of_weights())
    if config["class_weights"]["from_epoch"] < 0:
        raise UserError("class_weights.from_epoch: must not be negative; it counts the epochs of all stages")
    _check_stage(config["stage"])
    _check_leaf("optimizer", config["optimizer"], ("groups",), also=_keys_of_recipe())
    _check_leaf("schedule", config["schedule"], ("progress",), also={"warmup": _Key(float, True)})
    given: dict[str, tuple[str, ...]] = {
        "transform": (),
        "sampler": ("labels", "generator", "progress"),
        "backbone": (),
        "neck": ("feature_dim",),
        "loss": ("feature_dim", "class_stats"),
        "trainer": (),
        "logger": ("directory", "fit", "config"),
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


def reading(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of ``data`` that its reader takes."""
    taken = inspect.signature(target("data", node)).parameters
    return {key: value for key, value in arguments(node).items() if key in taken}


def preparing(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of ``data`` that ``prepare`` takes."""
    return {key: node[key] for key in _keys_of_prepare() if key in node}


def batching(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of ``data`` that the datamodule takes."""
    return {key: node[key] for key in _keys_of_batches() if key in node}


class _Key(NamedTuple):
    """What a value must be, and whether there must be one."""

    hint: Any
    required: bool


def _check_data(node: Any) -> None:
    read = inspect.signature(target("data", node)).parameters
    if lacking := [name for name in ("root", "classes") if name not in read]:
        raise UserError(f"data: {node['_target_']} must take root and classes; {lacking[0]} is missing")
    keys = {
        "store": _Key(str | None, True),
        "test_split": _Key(str | None, True),
        "exclude": _Key(str | None, False),
        "classes": _Key(list[str], True),
    }
    _check_leaf("data", node, (), also={**_keys_of_prepare(), **_keys_of_batches(), **keys})
    if (crop := node.get("crop")) is not None and not 1 <= crop <= node["size"]:
        raise UserError(f"data.crop={crop}: must be 1 to data.size={node['size']}, the side of the kept pictures")


def _keys_of_prepare() -> dict[str, _Key]:
    from fer_lightning.data.prepare import prepare

    return _keys(prepare, {"manifest", "base", "processes", "progress"})


def _keys_of_batches() -> dict[str, _Key]:
    from fer_lightning.data.datamodule import FaceDataModule

    return _keys(FaceDataModule, {"store", "draw", "augment", "seed"})


def _keys_of_weights() -> dict[str, _Key]:
    from fer_lightning.class_weights import Normalise

    return {"normalise": _Key(Normalise, True), "from_epoch": _Key(int, True)}


def _keys_of_recipe() -> dict[str, _Key]:
    return {
        "part_lr": _Key(dict[str, float], True),
        "layer_decay": _Key(float, True),
        "ema_decay": _Key(float | None, True),
    }


def _check_stage(node: Any) -> None:
    for key, value in node.items():
        if isinstance(value, dict):
            _check_leaf(f"stage.{key}", value, ())
            make(f"stage.{key}", value)
        elif key == "epochs":
            _check_value("stage.epochs", value, int)
        else:
            raise UserError(f"stage.{key}: unknown key; a stage has `epochs` and the fits it consists of")


def _keys(function: Callable[..., Any], without: Iterable[str]) -> dict[str, _Key]:
    try:
        typed = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # a name that is imported for type checkers only
        typed = {}
    named = {
        key: value for key, value in inspect.signature(function).parameters.items() if value.kind not in _REST
    }
    return {
        name: _Key(typed.get(name, Any), parameter.default is inspect.Parameter.empty)
        for name, parameter in named.items()
        if name not in set(without)
    }


def _check_leaf(group: str, node: Any, given: tuple[str, ...], also: dict[str, _Key] | None = None) -> None:
    """Check a node with a ``_target_``: code gives it ``given`` first, and takes the keys ``also`` elsewhere."""
    function, name = target(group, node), node["_target_"]
    first = tuple(inspect.signature(function).parameters)[: len(given)]
    if first != given:
        raise UserError(f"{group}: {name} must take ({', '.join(given)}) first, it takes ({', '.join(first)})")
    keys = {**_keys(function, {*given, *_OFFERED.get(group, ())}), **(also or {})}
    own = arguments(node)
    for key, value in own.items():
        if key not in keys:
            raise UserError(
                f"{group}.{key}: {name} takes no such key{_did_you_mean(key, keys)}; "
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


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""

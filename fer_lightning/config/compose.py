"""The configuration: composed by Hydra from conf/ and resolved to plain values."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fer_lightning.config.instantiate import arguments, is_own
from fer_lightning.config.overrides import readable, require_names, search_path
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.core.files import file_hash, user_path

_SEED = re.compile(r"seed=(0|[1-9]\d*)")
_REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
"""Exceptions that Hydra raises for wrong words or files; a ValueError where an option is a number or null."""


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's reader of config folders, which does not offer files such as ``_defaults.yaml`` as choices."""

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the options and folders of a group."""
        return [name for name in super().list(config_path, results_filter) if not name.startswith("_")]


SourcesRegistry.instance().types["file"] = FileConfigSource  # under its own name, the only one that Hydra lets be


def compose(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """Return the resolved configuration for overrides; for many configurations use one ``Composer``.

    Raises:
        UserError: A folder, group, option, key or file does not exist, or a value cannot be parsed.
    """
    return Composer(config_dir)(overrides)


def read_yaml(path: Path, kind: str) -> Any:
    """Return the content of a YAML file as plain values, with its interpolations resolved.

    Args:
        path: Path of the file.
        kind: Name of the kind of file, for the message.

    Raises:
        UserError: It is no YAML, or an interpolation cannot be resolved.
    """
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"{kind} {path}: {' '.join(str(error).split())}") from error


def _with_text_keys(node: Any) -> Any:
    """Return plain values in which every key is text: a label of ``data.labels`` may be a number."""
    if isinstance(node, dict):
        return {str(key): _with_text_keys(value) for key, value in node.items()}
    return [_with_text_keys(value) for value in node] if isinstance(node, list) else node


class Composer:
    """Composer of configurations that keeps what it has composed.

    Hydra composes overrides that differ in the seed alone once. A file of conf/ that changes meanwhile is not read
    again.

    Args:
        config_dir: A user's folder with further options, searched after conf/. From now on, code is imported from
            the folder that it lies in, before any other.

    Raises:
        UserError: There is no such folder.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        self._config_dir = config_dir
        self._folders: list[Path] = []
        if config_dir is not None:
            folder = user_path(config_dir).resolve()
            if not folder.is_dir():
                raise UserError(f"--config-dir {config_dir}: no such folder")
            if str(folder.parent) not in sys.path:
                sys.path.insert(0, str(folder.parent))
            self._folders.append(folder)
        self._composed: dict[tuple[tuple[str, ...], bool], DictConfig] = {}

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the resolved configuration for overrides as plain values.

        Its key ``choices`` holds the option chosen of each group. ``hydra.run.dir`` is not part of it. A group
        whose ``_target_`` is not ours gets the key ``_source_``, a hash of its file: edited code makes another
        run.

        Args:
            overrides: Words as on the command line of ``fer train``.

        Raises:
            UserError: A group, option, key or file does not exist, or a value cannot be parsed.
        """
        try:
            config = self._config(overrides)
        except _REFUSALS as error:
            raise UserError(_one_line(error, overrides, self)) from error
        for group, node in config.items():
            if is_own(node):
                node["_source_"] = _source(group, str(node["_target_"]), self._config_dir)
        return config

    def _config(self, overrides: Sequence[str]) -> dict[str, Any]:
        overrides = readable(overrides)
        words = tuple(word for word in overrides if not _SEED.fullmatch(word))
        if any(word.lstrip("+~").startswith("seed") for word in words):  # their order is Hydra's to mind
            words = tuple(overrides)
        seeds = [int(word.partition("=")[2]) for word in overrides if word not in words]
        key = (words, not seeds)  # a seed that was set stays set
        if key not in self._composed:
            self._composed[key] = self._by_hydra(words)
        config = self._composed[key]
        if seeds:
            config.seed = seeds[-1]
        return cast(dict[str, Any], _with_text_keys(OmegaConf.to_container(config, resolve=True)))

    def _by_hydra(self, words: Sequence[str]) -> DictConfig:
        require_names(words, groups())
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(shipped("conf").resolve()), version_base="1.3"):
            config = hydra_compose("config", [*words, *search_path(self._folders)], return_hydra_config=True)
        chosen = config.hydra.runtime.choices
        OmegaConf.set_readonly(config, False)
        OmegaConf.set_struct(config, False)
        config.choices = {group: chosen[group] for group in groups() if group in chosen}
        del config["hydra"]
        return config


def _source(group: str, name: str, config_dir: str | None) -> str:
    """Return a short hash of the file that a class or function is in, without importing it."""
    module = name.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        where = f"in {Path(config_dir).resolve().parent}" if config_dir else "beside the folder of --config-dir"
        raise UserError(f"{group}: {name!r}: there is no module {module!r}; your own files are looked for {where}")
    return file_hash(Path(spec.origin))[:8] if spec.has_location and spec.origin else ""


def _one_line(error: Exception, overrides: Sequence[str], composer: Composer) -> str:
    """Return Hydra's message without its advice on other things than the mistake."""
    text = str(error)
    if match := re.match(r"Could not override '([\w.]+)'", text):
        return f"{match[1]}: there is no such key{_similar_key(match[1], overrides, composer)}"
    if match := re.match(r"Ambiguous value for argument '(.*)'", text):
        return f"{match[1]}: a list of choices is a sweep; say `fer train -m ...` to run them all"
    lines = [line.strip() for line in text.split("Config search path")[0].splitlines()]
    message = " ".join(line for line in lines if line and not line.startswith(("full_key", "object_type")))
    return re.sub(r"^In '.*?': |,? [Ss]ee https?://\S+.*", "", message) + "; `fer train --help` lists all there is"


def _similar_key(key: str, overrides: Sequence[str], composer: Composer) -> str:
    """Return the keys beside a misspelt one, and the nearest of them."""
    others = [word for word in overrides if not word.lstrip("+~").startswith(key)]
    node: Any = composer(others)
    *above, last = key.split(".")
    for name in above:
        node = node.get(name) if isinstance(node, dict) else None
    keys = list(arguments(node)) if isinstance(node, dict) else []
    return f"{did_you_mean(last, keys)}; {'.'.join(above) or 'the config'} has {', '.join(keys) or 'none'}"

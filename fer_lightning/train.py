"""``fer train``: one cell, or with ``-m`` a sweep through Hydra's sweepers and launchers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from fer_lightning import launch, results
from fer_lightning.checking import check
from fer_lightning.config import Composer, compose, is_own
from fer_lightning.errors import UserError
from fer_lightning.layout import shipped

log = logging.getLogger(__name__)

HYDRA_ONLY = (
    "--help",
    "-h",
    "--hydra-help",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--version",
    "--resolve",
    "--package",
    "-p",
)


def train(words: Sequence[str]) -> int:
    """Run ``fer train`` with these words. Returns the exit code.

    Raises:
        UserError: an override does not fit the configuration.
    """
    if any(word in HYDRA_ONLY for word in words):
        return _hydra(words, launch.Launcher())
    config_dir, overrides, multirun = _split(words)
    if multirun:
        launcher = launch.Launcher(config_dir)
        launcher.setting(first_of_sweep(overrides, launcher.compose))  # data that is wrong is said once, and now
        return _hydra(words, launcher)
    compose(_own(overrides), config_dir)
    directory = [word.partition("=")[2] for word in overrides if word.startswith("hydra.run.dir=")]
    place = ["--directory", directory[-1]] if directory else []
    options = ["--config-dir", config_dir] if config_dir else []
    return launch.wait(launch.child([*place, *options, *_own(overrides)]))


def _split(words: Sequence[str]) -> tuple[str | None, list[str], bool]:
    """The user's config folder, the overrides, and whether this is a sweep."""
    overrides: list[str] = []
    config_dir = None
    rest = iter(words)
    for word in rest:
        if word in ("--config-dir", "-cd"):
            config_dir = next(rest, None)
        elif word.startswith("--config-dir="):
            config_dir = word.partition("=")[2]
        elif word not in ("-m", "--multirun"):
            if word.startswith("-"):
                raise UserError(f"fer train: unknown option {word}; `fer train --help` lists all there is")
            overrides.append(word)
    return config_dir, overrides, any(word in ("-m", "--multirun") for word in words)


def _own(overrides: Sequence[str]) -> list[str]:
    return [word for word in overrides if not word.startswith("hydra.")]


def first_of_sweep(overrides: Sequence[str], composer: Composer) -> list[str]:
    """A sweep's first choices, after composing every other once: a misspelt one is found before anything trains.

    Raises:
        UserError: one of them does not exist.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(f"{str(error).splitlines()[0]}; write key=value") from error
    choices = [
        [f"{override.get_key_element()}={choice}" for choice in override.sweep_string_iterator()]
        if override.is_choice_sweep() or override.is_range_sweep()
        else [override.input_line or ""]
        for override in parsed
        if not (override.input_line or "").startswith("hydra.")
    ]
    firsts = [choice[0] for choice in choices]
    for place, options in enumerate(choices):
        for option in options:
            config = composer([*firsts[:place], option, *firsts[place + 1 :]])
            if any(map(is_own, config.values())):
                _try_out(config)
    return firsts


def _try_out(config: dict[str, Any]) -> None:
    from fer_lightning import objective  # torch, which a sweep without code of the user's own needs not yet

    check(config)
    objective.try_out(config)


def _hydra(words: Sequence[str], launcher: launch.Launcher) -> int:
    failed: list[str] = []
    complete: list[tuple[Path, list[str]]] = []

    def cell(config: DictConfig) -> None:
        """One job of a sweep: a child process in the cell's own folder."""
        job = HydraConfig.get()
        overrides = list(job.overrides.task)
        try:
            directory = launcher.directory(overrides, Path(job.sweep.dir))
            if results.read(directory):
                log.info("complete: %s was there, nothing to do", directory)
                complete.append((directory, overrides))
                return
            while complete:  # what they minimise matters only where there is something to train
                earlier, its = complete.pop(0)
                launcher.distinct.add(earlier, launcher.objective(its))
            same = launcher.distinct.add(directory, launcher.objective(overrides))
        except UserError as error:
            failed.append(f"{' '.join(overrides)}: {error}")
            return
        if same and same[1] == 1:
            log.info("not trained: %s is the same experiment as %s", " ".join(overrides), same[0])
            return
        if same:
            log.warning("note: %s is %s up to a constant, %.3g times the loss", directory, *same)
        log.info("cell %s: %s", job.job.num, directory)
        launch.wait(launcher.start(overrides, directory))
        if results.read(directory) is None:
            failed.append(str(directory))

    argv = sys.argv
    sys.argv = ["fer train", *words]
    try:
        hydra.main(config_path=str(shipped("conf").resolve()), config_name="config", version_base="1.3")(cell)()
    finally:
        sys.argv = argv
    for cell_and_reason in failed:
        log.error("failed: %s", cell_and_reason)
    return 1 if failed else 0

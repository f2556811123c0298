"""``fer train``: one run, or with ``-m`` a sweep of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import is_own
from fer_lightning.config.overrides import RUN_DIR, apart, refuse
from fer_lightning.config.shipped import shipped
from fer_lightning.core.errors import UserError
from fer_lightning.run import launch
from fer_lightning.run.check_config import check
from fer_lightning.sweeps import grid, hydra_launchers
from fer_lightning.sweeps.planner import Planner
from fer_lightning.sweeps.run_sweep import Sweep

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
MULTIRUN = ("-m", "--multirun")
RETRY = "--retry-failed"


def train(words: Sequence[str]) -> int:
    """Run ``fer train`` with these words. Returns the exit code.

    Raises:
        UserError: an override does not fit the configuration.
    """
    if any(word in HYDRA_ONLY for word in words):
        return _hydra_only(words)
    config_dir, options, overrides = _split(words)
    own, of_hydra = apart(overrides)
    if options & set(MULTIRUN):
        return _sweep(own, of_hydra, config_dir, retry_failed=RETRY in options)
    if RETRY in options:
        raise UserError(f"fer train: {RETRY} is for a sweep; a run is tried anew by the same command")
    compose(own, config_dir)
    refuse(
        of_hydra, lambda key: key != RUN_DIR, "fer train", "hydra.run.dir=FOLDER, and with -m all that Hydra has"
    )
    directory = hydra_launchers.run_folder(own, of_hydra, config_dir)
    place = ["--directory", str(directory)] if directory else []
    given = ["--config-dir", config_dir] if config_dir else []
    return launch.wait(lambda: launch.child([*place, *given, *own]))


def _split(words: Sequence[str]) -> tuple[str | None, set[str], list[str]]:
    """The user's config folder, the other options, and the overrides."""
    overrides: list[str] = []
    options: set[str] = set()
    config_dir = None
    rest = iter(words)
    for word in rest:
        if word in ("--config-dir", "-cd"):
            config_dir = next(rest, None)
        elif word.startswith("--config-dir="):
            config_dir = word.partition("=")[2]
        elif word in (*MULTIRUN, RETRY):
            options.add(word)
        elif word.startswith("-") and "=" not in word:
            raise UserError(f"fer train: unknown option {word}; `fer train --help` lists all there is")
        else:
            overrides.append(word)
    return config_dir, options, overrides


def _sweep(own: Sequence[str], of_hydra: Sequence[str], config_dir: str | None, *, retry_failed: bool) -> int:
    settings = hydra_launchers.settings(of_hydra, config_dir)
    refuse(of_hydra, lambda key: key == RUN_DIR, "fer train -m", "hydra.sweep.dir=FOLDER")
    base = Path(settings.sweep.dir).expanduser()
    planner = Planner(config_dir)
    sweeper = settings.runtime.choices["hydra/sweeper"]
    if sweeper == "optuna":
        try:
            from fer_lightning.sweeps.optuna_search import Search
        except ModuleNotFoundError as error:
            raise UserError("hydra/sweeper=optuna: pip install 'fer-lightning[optuna]' first") from error
        numbers = {key: value for key, value in settings.sweeper.items() if key != "_target_"}
        return Search(own, planner, base, **numbers).run(of_hydra, config_dir, retry_failed=retry_failed)
    if sweeper != "basic":
        raise UserError(f"hydra/sweeper={sweeper}: there is basic, a grid, and optuna, a search")
    combinations = hydra_launchers.grid(own)
    try_out_own([planner.compose(words) for words in combinations])
    planned = grid.plan(combinations, planner, base)
    return 1 if Sweep(planned, base, of_hydra, config_dir, retry_failed=retry_failed).run() else 0


def try_out_own(configs: Sequence[dict[str, Any]]) -> None:
    """Try code of the user's own once for each config that has some: a mistake in it is found before any training.

    Raises:
        UserError: it does not do what it must.
    """
    tried = set()
    for config in configs:
        nodes = [node for node in config.values() if is_own(node)]
        if not nodes or repr(nodes) in tried:
            continue
        from fer_lightning.run import build_loss  # torch, for code of the user's own alone

        tried.add(repr(nodes))
        check(config)
        build_loss.try_out(config)


def _hydra_only(words: Sequence[str]) -> int:
    """What Hydra tells of the configuration."""
    argv = sys.argv
    sys.argv = ["fer train", *words]
    try:
        path = str(shipped("conf").resolve())
        hydra.main(config_path=path, config_name="config", version_base="1.3")(lambda _: None)()
    finally:
        sys.argv = argv
    return 0

"""``fer train``: one run, or with ``-m`` a sweep of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import hydra

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import is_own
from fer_lightning.config.overrides import RUN_DIR, apart, refuse
from fer_lightning.config.shipped import shipped
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.core.parser import Parser
from fer_lightning.run import claim, launch
from fer_lightning.sweeps import hydra_launchers

HYDRA_OPTIONS = {"--hydra-help", "--cfg", "-c", "--info", "-i", "--version", "--resolve", "--package", "-p"}
"""Options of Hydra's own, which print something about the configuration and train nothing."""


def train(words: Sequence[str]) -> int:
    """Run ``fer train``; return the exit code.

    Raises:
        UserError: an option or override is wrong.
    """
    if HYDRA_OPTIONS & set(words):
        return _run_hydra(words)
    parser = Parser(prog="fer train", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("--retry-failed", action="store_true")
    options = parser.parse_intermixed_args(words)
    config_dir = options.config_dir
    if options.help:
        print(hydra_launchers.help_text(options.overrides, config_dir))
        return 0
    overrides, of_hydra = apart(options.overrides)
    if options.multirun:
        return _sweep(overrides, of_hydra, config_dir, retry_failed=options.retry_failed)
    if options.retry_failed:
        raise UserError("fer train: --retry-failed is for a sweep; the same command trains a failed run anew")
    compose(overrides, config_dir)
    refuse(
        of_hydra, lambda key: key != RUN_DIR, "fer train", "hydra.run.dir=FOLDER, and with -m all that Hydra has"
    )
    directory = hydra_launchers.run_folder(overrides, of_hydra, config_dir)
    arguments = ["--directory", str(directory)] if directory else []
    arguments += ["--config-dir", config_dir] if config_dir else []
    with claim.failure_noted(directory):
        return launch.code_of(lambda: launch.child([*arguments, *overrides]))


def _sweep(
    overrides: Sequence[str], of_hydra: Sequence[str], config_dir: str | None, *, retry_failed: bool
) -> int:
    # a single run does not need these, and --help must not wait for them
    from fer_lightning.sweeps import grid
    from fer_lightning.sweeps.planner import Planner
    from fer_lightning.sweeps.run_sweep import Sweep

    settings = hydra_launchers.settings(of_hydra, config_dir)
    refuse(of_hydra, lambda key: key == RUN_DIR, "fer train -m", "hydra.sweep.dir=FOLDER")
    base = user_path(settings.sweep.dir)
    planner = Planner(config_dir)
    sweeper = settings.runtime.choices["hydra/sweeper"]
    if sweeper == "optuna":
        try:
            from fer_lightning.sweeps.optuna_search import Search
        except ModuleNotFoundError as error:
            raise UserError("hydra/sweeper=optuna: pip install 'fer-lightning[optuna]' first") from error
        numbers = {key: value for key, value in settings.sweeper.items() if key != "_target_"}
        return Search(overrides, planner, base, **numbers).run(of_hydra, config_dir, retry_failed=retry_failed)
    if sweeper != "basic":
        raise UserError(f"hydra/sweeper={sweeper}: choose basic for a grid, or optuna for a search")
    combinations = hydra_launchers.grid(overrides)
    try_out_own([planner.compose(words) for words in combinations])
    planned = grid.plan(combinations, planner, base)
    return 1 if Sweep(planned, base, of_hydra, config_dir, retry_failed=retry_failed).run() else 0


def try_out_own(configs: Sequence[dict[str, Any]]) -> None:
    """Call the user's own code once for each config that names some, so that its mistakes show before training.

    Raises:
        UserError: the code fails, or does not return what it must.
    """
    tried = set()
    for config in configs:
        nodes = [node for node in config.values() if is_own(node)]
        if not nodes or repr(nodes) in tried:
            continue
        from fer_lightning.run import build_loss  # imports torch, which only the user's own code needs here
        from fer_lightning.run.check_config import check

        tried.add(repr(nodes))
        check(config)
        build_loss.try_out(config)


def _run_hydra(words: Sequence[str]) -> int:
    """Let Hydra print what its own options ask for."""
    argv = sys.argv
    sys.argv = ["fer train", *words]
    try:
        path = str(shipped("conf").resolve())
        hydra.main(config_path=path, config_name="config", version_base="1.3")(lambda _: None)()
    finally:
        sys.argv = argv
    return 0

"""Hydra's own part of a command: its settings, the help text, the grid of a command line, and the launchers."""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fer_lightning.config.overrides import parse, readable, search_path
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.core.processes import ProcessId, end_with

log = logging.getLogger(__name__)

_EXTRAS = {
    "hydra/launcher=ray": "ray",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=submitit_local": "slurm",
}
"""Launchers that come with an extra."""


def settings(words: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """Return Hydra's own configuration, the node ``hydra``.

    Args:
        words: overrides that begin with ``hydra``.
        config_dir: a user's folder with further options.

    Raises:
        UserError: an option or key does not exist.
    """
    with _composed(words, config_dir) as (_, config):
        OmegaConf.resolve(config.hydra.sweep)
        OmegaConf.resolve(config.hydra.sweeper)
        OmegaConf.resolve(config.hydra.launcher)
        node: DictConfig = config.hydra
        return node


def help_text(words: Sequence[str], config_dir: str | None = None) -> str:
    """Return the text of ``fer train --help``: every group with its choices, and the composed configuration.

    Hydra's own --help prints the same in three times as long, since it lists the groups of Hydra itself as well.

    Args:
        words: overrides of the configuration.
        config_dir: a user's folder with further options.

    Raises:
        UserError: an override does not fit the configuration.
    """
    folders = [shipped("conf"), *([user_path(config_dir)] if config_dir else [])]
    choices = ""
    for group in sorted(groups()):
        options = {file.stem for folder in folders for file in (folder / group).glob("[!_]*.yaml")}
        choices += f"{group}: {', '.join(sorted(options))}\n"
    with _composed(words, config_dir, RunMode.RUN) as (_, config):
        job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        template = string.Template(config.hydra.help.template)
        return template.substitute(APP_CONFIG_GROUPS=choices, CONFIG=OmegaConf.to_yaml(job))


def run_folder(words: Sequence[str], of_hydra: Sequence[str], config_dir: str | None = None) -> Path | None:
    """Return the value of ``hydra.run.dir`` with its interpolations resolved; None if it is not given.

    Args:
        words: overrides of the run.
        of_hydra: overrides that begin with ``hydra``.
        config_dir: a user's folder with further options.

    Raises:
        UserError: it cannot be resolved.
    """
    if not of_hydra:
        return None
    with _composed([*words, *of_hydra], config_dir, RunMode.RUN) as (_, config):
        HydraConfig.instance().set_config(config)  # resolves ${hydra:...}
        return user_path(config.hydra.run.dir)


def grid(words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each run: all combinations of the choices in ``words``, the last varying fastest.

    Raises:
        UserError: a word cannot be parsed, or has infinitely many choices.
    """
    try:
        (runs,) = BasicSweeper.split_arguments(parse(words), None)
    except HydraException as error:
        raise UserError(f"{error}; hydra/sweeper=optuna searches over intervals") from error
    return runs


def launch(
    task: TaskFunction, jobs: Sequence[Sequence[str]], words: Sequence[str], config_dir: str | None = None
) -> list[int | None]:
    """Run ``task`` for each job through the configured launcher.

    Args:
        task: called with a job's config; Hydra's ``job.num`` is the job's number.
        jobs: the overrides of each job.
        words: overrides that begin with ``hydra``.
        config_dir: a user's folder with further options.

    Returns:
        The return value of each job, None if it is not known. An empty list if the launcher failed, for example
        because a cluster ended a job; the files of the runs show what was completed.

    Raises:
        UserError: the launcher or one of its settings does not exist.
    """
    with _composed(words, config_dir) as (hydra, config):
        context = HydraContext(hydra.config_loader, Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
    if hasattr(
        launcher, "joblib"
    ):  # arguments of Parallel, whose workers would wait for a killed process for minutes
        launcher.joblib.update(initializer=end_with, initargs=(ProcessId.own(),))
    try:
        returns = launcher.launch([list(job) for job in jobs], initial_job_idx=0)
    except Exception as error:
        log.error("the launcher failed: %s: %s", type(error).__name__, (str(error).splitlines() or [""])[0])
        return []
    return [job.return_value if job.status == JobStatus.COMPLETED else None for job in returns]


@contextmanager
def _composed(
    words: Sequence[str], config_dir: str | None, mode: RunMode = RunMode.MULTIRUN
) -> Iterator[tuple[Hydra, DictConfig]]:
    """Compose the configuration with Hydra's own node; yield it with the Hydra that composed it."""
    parse(words)
    all_words = [*readable(words), *search_path([user_path(config_dir).resolve()] if config_dir else [])]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(shipped("conf").resolve()), job_name="fer", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            yield hydra, hydra.compose_config("config", all_words, mode, with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error).split("Config search path")[0].strip()
        message = re.sub(r"^In '.*?': |\s+full_key: [\s\S]*", "", message)
        chosen = [word for word in words if not word.startswith("hydra.sweep.dir=")]
        missing = [extra for word, extra in _EXTRAS.items() if word in words and "Could not find" in message]
        hint = f"; pip install 'fer-lightning[{missing[0]}]' first" if missing else ""
        raise UserError(f"{' '.join(chosen)}: {' '.join(message.split())}{hint}") from error

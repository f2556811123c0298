"""Hydra's side of a sweep: its configuration, the grid that words span, and its launchers."""

from __future__ import annotations

import logging
import re
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
from fer_lightning.config.shipped import shipped
from fer_lightning.core.errors import UserError

log = logging.getLogger(__name__)


def settings(words: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """Hydra's own configuration, its node ``hydra``, for words that begin with ``hydra``.

    Raises:
        UserError: there is no such option or key.
    """
    with _hydra(words, config_dir) as (_, config):
        OmegaConf.resolve(config.hydra.sweep)
        OmegaConf.resolve(config.hydra.sweeper)
        node: DictConfig = config.hydra
        return node


def run_folder(words: Sequence[str], of_hydra: Sequence[str], config_dir: str | None = None) -> Path | None:
    """The value of ``hydra.run.dir`` as Hydra understands it, interpolations and all; None where it is not given.

    Args:
        words: overrides about the run.
        of_hydra: overrides that begin with ``hydra``.
        config_dir: a user's folder with further options.

    Raises:
        UserError: it cannot be resolved.
    """
    if not of_hydra:
        return None
    with _hydra([*words, *of_hydra], config_dir, RunMode.RUN) as (_, config):
        HydraConfig.instance().set_config(config)  # for ${hydra:...}
        return Path(config.hydra.run.dir).expanduser()


def grid(words: Sequence[str]) -> list[list[str]]:
    """The overrides of each run: all combinations of the choices in ``words``, the last varying first.

    Raises:
        UserError: a word cannot be parsed, or is not a finite choice.
    """
    try:
        (runs,) = BasicSweeper.split_arguments(parse(words), None)
    except HydraException as error:
        raise UserError(f"{error}; for intervals there is hydra/sweeper=optuna") from error
    return runs


def launch(
    task: TaskFunction, jobs: Sequence[Sequence[str]], words: Sequence[str], config_dir: str | None = None
) -> list[int | None]:
    """Run ``task`` for each job through the configured launcher.

    Args:
        task: is called with a job's config, its number in Hydra's ``job.num``.
        jobs: their overrides.
        words: overrides that begin with ``hydra``.
        config_dir: a user's folder with further options.

    Returns:
        What it returned; None for a job of which that is not known. None at all where the launcher gave up, as
        when a cluster ends a job: the jobs' files tell of themselves.
    """
    with _hydra(words, config_dir) as (hydra, config):
        context = HydraContext(hydra.config_loader, Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
    try:
        done = launcher.launch([list(job) for job in jobs], initial_job_idx=0)
    except Exception as error:
        log.error("the launcher gave up: %s: %s", type(error).__name__, (str(error).splitlines() or [""])[0])
        return []
    return [job.return_value if job.status == JobStatus.COMPLETED else None for job in done]


@contextmanager
def _hydra(
    words: Sequence[str], config_dir: str | None, mode: RunMode = RunMode.MULTIRUN
) -> Iterator[tuple[Hydra, DictConfig]]:
    parse(words)
    all_words = [*readable(words), *search_path([Path(config_dir).expanduser().resolve()] if config_dir else [])]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(shipped("conf").resolve()), job_name="fer", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            yield hydra, hydra.compose_config("config", all_words, mode, with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        told = re.sub(r"^In '.*?': |\s+full_key: [\s\S]*", "", str(error).split("Config search path")[0].strip())
        chosen = [word for word in words if not word.startswith("hydra.sweep.dir=")]
        raise UserError(f"{' '.join(chosen)}: {' '.join(told.split())}") from error

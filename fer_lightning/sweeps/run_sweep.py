"""Train the missing runs of a sweep through Hydra's launcher, each in a child process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from multiprocessing import set_start_method
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fer_lightning.config.overrides import quoted
from fer_lightning.core.errors import Busy
from fer_lightning.core.processes import ProcessId, end_with
from fer_lightning.evaluation import results
from fer_lightning.run import claim
from fer_lightning.sweeps import hydra_launchers, planned_run, slurm_jobs
from fer_lightning.sweeps.planned_run import PlannedRun, State
from fer_lightning.sweeps.progress_lines import Progress
from fer_lightning.sweeps.slurm_queue import Job
from fer_lightning.sweeps.train_run import train_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Function that a Hydra launcher calls for each job, on this machine or another one.

    Attributes:
        runs: the run of each job, by the job's number.
        options: options of the child's command line.
        sweep: process of the sweep.
    """

    runs: Sequence[PlannedRun]
    options: Sequence[str]
    sweep: ProcessId

    def __call__(self, _: DictConfig) -> int:
        """Train the run of the current job in a child process; return the child's exit code."""
        if os.getppid() == self.sweep.number:  # this is one of joblib's workers, whose start method a run lacks
            set_start_method("forkserver", force=True)
        if self.sweep.number != os.getpid():
            end_with(self.sweep)
        return train_run(self.runs[HydraConfig.get().job.num], self.options)


@dataclass
class Sweep:
    """Runs of one command, of which the missing ones are trained.

    Args:
        runs: all runs; complete ones are not trained again.
        base: the folder of the runs.
        hydra_words: overrides that begin with ``hydra``, which choose the launcher and its settings.
        config_dir: a user's folder with further options.
        what: what messages call the runs.
        retry_failed: whether runs that failed earlier are trained anew.
    """

    runs: Sequence[PlannedRun]
    base: Path
    hydra_words: Sequence[str] = ()
    config_dir: str | None = None
    _: KW_ONLY
    what: str = "runs"
    retry_failed: bool = False

    def __post_init__(self) -> None:
        first = {run.directory: run for run in reversed(self.runs) if not run.error}
        # rows of a table may share a run
        self.runs = [run for run in self.runs if run.error or first[run.directory] is run]

    def run(self) -> list[PlannedRun]:
        """Train the missing runs with a progress display.

        Returns:
            The runs that are not complete in the end; the reason of each is logged.

        Raises:
            UserError: the launcher does not exist.
        """
        to_do = self._to_do()
        done = sum(run.is_done() for run in self.runs)
        if to_do:
            log.info("%d of %d %s are complete, %d to do", done, len(self.runs), self.what, len(to_do))
        elif done == len(self.runs):
            log.info("all %d %s are complete, nothing is trained", done, self.what)
        with Progress(self.runs, to_do) if to_do else nullcontext():
            self.train()
        missing = [run for run in self.runs if not run.is_done()]
        jobs = slurm_jobs.noted(self.base)
        for run in missing:
            log.error(_reason(run, jobs.get(run.directory.name)))
        return missing

    def train(self) -> None:
        """Write the plan of all runs, and train the missing ones.

        Raises:
            UserError: the launcher does not exist.
        """
        planned_run.write(self.runs, self.base)
        to_do = self._to_do()
        for run in to_do:
            (run.directory / claim.FAILURE).unlink(missing_ok=True)
        while to_do:
            to_do = self._train_once(to_do)

    def _to_do(self) -> list[PlannedRun]:
        runs = [run for run in self.runs if not run.error and not run.is_done()]
        return runs if self.retry_failed else [run for run in runs if run.failure() is None]

    def _train_once(self, to_do: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Launch the runs; return those that another sweep was training and then left incomplete."""
        options = ["--config-dir", self.config_dir] if self.config_dir else []
        words = [*self.hydra_words, f"hydra.sweep.dir={quoted(self.base)}"]
        launcher = hydra_launchers.settings(words, self.config_dir).launcher
        if slurm_jobs.is_slurm(launcher):
            busy = slurm_jobs.launch(to_do, options, self.base, launcher)
            return [run for run in busy if run.state() in (State.STOPPED, State.MISSING)]
        task = Task(to_do, options, ProcessId.own())
        codes = hydra_launchers.launch(task, [run.words for run in to_do], words, self.config_dir)
        busy = [run for run, code in zip(to_do, codes, strict=False) if code == Busy.code]
        for run in busy:
            while claim.is_claimed(run.directory):
                time.sleep(0.5)
        return [run for run in busy if run.state() in (State.STOPPED, State.MISSING)]


def _reason(run: PlannedRun, job: Job | None) -> str:
    """Return why a run is not complete, and what to do about it; its job of SLURM tells more, if it has one."""
    if run.error:
        return f"failed: {run.label}: {run.error}"
    log_file = run.directory / results.LOG
    if run.failure():
        return f"failed: {run.label}: {run.message()} ({log_file}; --retry-failed trains it anew)"
    told = f"{job}; {run.message()}" if job else run.message()
    return f"not complete: {run.label}: {told} ({log_file}); the same command goes on with it"

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
from fer_lightning.core.processes import ProcessId, crash, end_with
from fer_lightning.evaluation import results
from fer_lightning.run import claim, launch
from fer_lightning.sweeps import gpu_leases, hydra_launchers, planned_run
from fer_lightning.sweeps.planned_run import PlannedRun, State
from fer_lightning.sweeps.progress_lines import Progress

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
        if self.sweep.number != os.getpid() and "SLURM_JOB_ID" not in os.environ:  # jobs of SLURM stay
            end_with(self.sweep)
        run = self.runs[HydraConfig.get().job.num]
        several_ranks = int(os.environ.get("SLURM_NTASKS", "1")) > 1  # one of which may hold the claim, or abort
        if not several_ranks and claim.is_claimed(run.directory):
            return Busy.code
        run.directory.mkdir(parents=True, exist_ok=True)
        trial = ["--trial"] if run.trial else []
        prepared = ["--prepared", *run.prepared] if run.prepared else []
        words = ["--directory", str(run.directory.resolve()), *trial, *prepared, *self.options, *run.words]
        with gpu_leases.leased(run.gpus) as environment:
            if environment:
                _note(run, f"on GPU {environment[gpu_leases.VISIBLE]}")
            code = launch.wait(lambda: launch.fork(words, run.directory / results.LOG, **environment))
        if (name := crash(code)) and not run.is_done() and not (several_ranks and name == "SIGABRT"):
            claim.note_failure(run.directory, f"ended by {name}, see {results.LOG}")
        return code


def _note(run: PlannedRun, line: str) -> None:
    """Add a line to the log of a run that is about to start."""
    with (run.directory / results.LOG).open("a", encoding="utf-8") as log_file:
        log_file.write(f"{line}\n")


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
        for run in missing:
            log.error(_reason(run))
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
        task = Task(to_do, options, ProcessId.own())
        words = [*self.hydra_words, f"hydra.sweep.dir={quoted(self.base)}"]
        codes = hydra_launchers.launch(task, [run.words for run in to_do], words, self.config_dir)
        busy = [run for run, code in zip(to_do, codes, strict=False) if code == Busy.code]
        for run in busy:
            while claim.is_claimed(run.directory):
                time.sleep(0.5)
        return [run for run in busy if run.state() in (State.STOPPED, State.MISSING)]


def _reason(run: PlannedRun) -> str:
    """Return why a run is not complete, and what to do about it."""
    if run.error:
        return f"failed: {run.label}: {run.error}"
    log_file = run.directory / results.LOG
    if run.failure():
        return f"failed: {run.label}: {run.message()} ({log_file}; --retry-failed trains it anew)"
    return f"not complete: {run.label}: {run.message()} ({log_file}); the same command goes on with it"

"""A sweep being run: its missing runs go through Hydra's launcher, each in a process tree of its own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import set_start_method
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fer_lightning.config.overrides import quoted
from fer_lightning.core.errors import Busy
from fer_lightning.core.processes import end_with_parent
from fer_lightning.evaluation import results
from fer_lightning.run import claim, launch
from fer_lightning.sweeps import gpu_leases, hydra_launchers
from fer_lightning.sweeps import planned_run as planned_run
from fer_lightning.sweeps.planned_run import PlannedRun, State
from fer_lightning.sweeps.progress_lines import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What a Hydra launcher runs for each run, here or elsewhere: a child process. Returns its exit code.

    Attributes:
        runs: by the job's number.
        options: of the child's command line.
        sweep: process id of the sweep.
    """

    runs: Sequence[PlannedRun]
    options: Sequence[str]
    sweep: int

    def __call__(self, _: DictConfig) -> int:
        """Train the run of the present job."""
        if os.getppid() == self.sweep:  # in a worker on this machine, which joblib has started
            end_with_parent()
            set_start_method("forkserver", force=True)  # a forked run would not know joblib's own
        run = self.runs[HydraConfig.get().job.num]
        if int(os.environ.get("SLURM_NTASKS", "1")) == 1 and claim.is_claimed(run.directory):
            return Busy.code  # among several tasks, the first rank may have it already
        run.directory.mkdir(parents=True, exist_ok=True)
        kind = ["--trial"] if run.trial else []
        words = ["--directory", str(run.directory.resolve()), *kind, *self.options, *run.words]
        with gpu_leases.leased(run.gpus) as environment:
            return launch.wait(lambda: launch.fork(words, run.directory / results.LOG, **environment))


class Sweep:
    """Runs that are to be there in the end.

    Args:
        runs: all of them; those that are complete are left alone.
        base: their folder.
        hydra_words: overrides that begin with ``hydra``: which launcher, and its settings.
        config_dir: a user's folder with further options.
        what: they are called.
        retry_failed: train those anew that an earlier run of this sweep saw fail.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        base: Path,
        hydra_words: Sequence[str] = (),
        config_dir: str | None = None,
        *,
        what: str = "runs",
        retry_failed: bool = False,
    ) -> None:
        shared = {run.directory: run for run in reversed(runs) if not run.error}  # some rows share theirs
        self.runs = [run for run in runs if run.error or shared[run.directory] is run]
        self.base = base
        self.hydra_words = hydra_words
        self.config_dir = config_dir
        self.what = what
        self.retry_failed = retry_failed

    def run(self) -> list[PlannedRun]:
        """Train what is missing. Returns the runs that are not complete in the end, and says why.

        Raises:
            UserError: there is no such launcher.
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
            log.error(self._epitaph(run))
        return missing

    def train(self) -> None:
        """Train what is missing, and write down all that was planned.

        Raises:
            UserError: there is no such launcher.
        """
        planned_run.note_down(self.runs, self.base)
        to_do = self._to_do()
        for run in to_do:
            (run.directory / claim.FAILURE).unlink(missing_ok=True)
        while to_do:
            to_do = self._once(to_do)

    def _to_do(self) -> list[PlannedRun]:
        runs = [run for run in self.runs if not run.error and not run.is_done()]
        return runs if self.retry_failed else [run for run in runs if run.failure() is None]

    def _once(self, to_do: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Launch all; returns those that another sweep was at and then left, which are ours to go on with."""
        codes = self._launch(to_do)
        busy = [run for run, code in zip(to_do, codes, strict=False) if code == Busy.code]
        for run in busy:
            while claim.is_claimed(run.directory):
                time.sleep(0.5)
        return [run for run in busy if run.state() in (State.STOPPED, State.MISSING)]

    def _launch(self, to_do: Sequence[PlannedRun]) -> list[int | None]:
        """Exit codes of the runs, as far as the launcher knows them."""
        options = ["--config-dir", self.config_dir] if self.config_dir else []
        task = Task(to_do, options, os.getpid())
        words = [*self.hydra_words, f"hydra.sweep.dir={quoted(self.base)}"]
        return hydra_launchers.launch(task, [run.words for run in to_do], words, self.config_dir)

    def _epitaph(self, run: PlannedRun) -> str:
        """Why a run is not complete."""
        if run.error:
            return f"failed: {run.label}: {run.error}"
        where = run.directory / results.LOG
        if run.failure():
            return f"failed: {run.label}: {run.says()} ({where}; --retry-failed trains it anew)"
        return f"not complete: {run.label}: {run.says()} ({where}); the same command goes on with it"

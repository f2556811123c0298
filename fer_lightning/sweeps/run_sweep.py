"""A sweep being run: its missing cells go through Hydra's launcher, each in a process tree of its own."""

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
from fer_lightning.sweeps import planned_run as planned_cells
from fer_lightning.sweeps.planned_run import Planned, State
from fer_lightning.sweeps.progress_lines import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What a Hydra launcher runs for each cell, here or elsewhere: a child process. Returns its exit code.

    Attributes:
        cells: by the job's number.
        options: of the child's command line.
        sweep: process id of the sweep.
    """

    cells: Sequence[Planned]
    options: Sequence[str]
    sweep: int

    def __call__(self, _: DictConfig) -> int:
        """Train the cell of the present job."""
        if os.getppid() == self.sweep:  # in a worker on this machine, which joblib has started
            end_with_parent()
            set_start_method("forkserver", force=True)  # a forked cell would not know joblib's own
        cell = self.cells[HydraConfig.get().job.num]
        if int(os.environ.get("SLURM_NTASKS", "1")) == 1 and claim.is_claimed(cell.directory):
            return Busy.code  # among several tasks, the first rank may have it already
        cell.directory.mkdir(parents=True, exist_ok=True)
        kind = ["--trial"] if cell.trial else []
        words = ["--directory", str(cell.directory.resolve()), *kind, *self.options, *cell.words]
        with gpu_leases.leased(cell.gpus) as environment:
            return launch.wait(launch.fork(words, cell.directory / results.LOG, **environment))


class Sweep:
    """Cells that are to be there in the end.

    Args:
        cells: all of them; those that are complete are left alone.
        base: their folder.
        hydra_words: overrides that begin with ``hydra``: which launcher, and its settings.
        config_dir: a user's folder with further options.
        what: they are called.
        retry_failed: train those anew that an earlier run of this sweep saw fail.
    """

    def __init__(
        self,
        cells: Sequence[Planned],
        base: Path,
        hydra_words: Sequence[str] = (),
        config_dir: str | None = None,
        *,
        what: str = "cells",
        retry_failed: bool = False,
    ) -> None:
        shared = {cell.directory: cell for cell in reversed(cells) if not cell.error}  # some rows share theirs
        self.cells = [cell for cell in cells if cell.error or shared[cell.directory] is cell]
        self.base = base
        self.hydra_words = hydra_words
        self.config_dir = config_dir
        self.what = what
        self.retry_failed = retry_failed

    def run(self) -> list[Planned]:
        """Train what is missing. Returns the cells that are not complete in the end, and says why.

        Raises:
            UserError: there is no such launcher.
        """
        to_do = self._to_do()
        done = sum(cell.is_done() for cell in self.cells)
        if to_do:
            log.info("%d of %d %s are complete, %d to do", done, len(self.cells), self.what, len(to_do))
        elif done == len(self.cells):
            log.info("all %d %s are complete, nothing is trained", done, self.what)
        with Progress(self.cells, to_do) if to_do else nullcontext():
            self.train()
        missing = [cell for cell in self.cells if not cell.is_done()]
        for cell in missing:
            log.error(self._epitaph(cell))
        return missing

    def train(self) -> None:
        """Train what is missing, and write down all that was planned.

        Raises:
            UserError: there is no such launcher.
        """
        planned_cells.note_down(self.cells, self.base)
        to_do = self._to_do()
        for cell in to_do:
            (cell.directory / claim.FAILURE).unlink(missing_ok=True)
        while to_do:
            to_do = self._once(to_do)

    def _to_do(self) -> list[Planned]:
        cells = [cell for cell in self.cells if not cell.error and not cell.is_done()]
        return cells if self.retry_failed else [cell for cell in cells if cell.failure() is None]

    def _once(self, to_do: Sequence[Planned]) -> list[Planned]:
        """Launch all; returns those that another sweep was at and then left, which are ours to go on with."""
        codes = self._launch(to_do)
        busy = [cell for cell, code in zip(to_do, codes, strict=False) if code == Busy.code]
        for cell in busy:
            while claim.is_claimed(cell.directory):
                time.sleep(0.5)
        return [cell for cell in busy if cell.state() in (State.STOPPED, State.MISSING)]

    def _launch(self, to_do: Sequence[Planned]) -> list[int | None]:
        """Exit codes of the cells, as far as the launcher knows them."""
        options = ["--config-dir", self.config_dir] if self.config_dir else []
        task = Task(to_do, options, os.getpid())
        words = [*self.hydra_words, f"hydra.sweep.dir={quoted(self.base)}"]
        return hydra_launchers.launch(task, [cell.words for cell in to_do], words, self.config_dir)

    def _epitaph(self, cell: Planned) -> str:
        """Why a cell is not complete."""
        if cell.error:
            return f"failed: {cell.label}: {cell.error}"
        where = cell.directory / results.LOG
        if cell.failure():
            return f"failed: {cell.label}: {cell.says()} ({where}; --retry-failed trains it anew)"
        return f"not complete: {cell.label}: {cell.says()} ({where}); the same command goes on with it"

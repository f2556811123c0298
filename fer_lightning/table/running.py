"""A table being run: its missing cells, some at a time, and what a person sees of it meanwhile."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fer_lightning import launch
from fer_lightning.errors import UserError
from fer_lightning.table import plan as planning
from fer_lightning.table import report, tuning, words
from fer_lightning.table.plan import PlannedCell, TablePlan
from fer_lightning.table.rows import load

log = logging.getLogger(__name__)

LOG = "log.txt"


def jobs_at_a_time(config: dict[str, dict[str, int | str]]) -> int:
    """Cells at a time: what the cores allow where one cell is one CPU process, else one."""
    trainer = config["trainer"]
    if trainer["accelerator"] != "cpu" or int(trainer["devices"]) > 1:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(trainer["threads"])))


class Run:
    """A table being run: its missing cells, some at a time, each in a process tree of its own."""

    def __init__(
        self, plan: TablePlan, overrides: Sequence[str], launcher: launch.Launcher, base: Path, jobs: int | None
    ) -> None:
        self.plan = plan
        self.overrides = overrides
        self.base = base
        self.launcher = launcher
        self.jobs = jobs or jobs_at_a_time(launcher.compose([*plan.overrides, *overrides]))
        self.running: dict[launch.Child, tuple[PlannedCell, float]] = {}
        self.missing: list[PlannedCell] = []
        self.failed: list[PlannedCell] = []
        self.finished = 0

    def run(self) -> int:
        """Run what is missing and write the table's files. Returns 1 where a cell failed."""
        tuning.refuse_unequal_budgets(self.plan)
        if self.plan.tune_seeds:
            tried = tuning.trials(self.plan, self.overrides, self.launcher, self.base)
            self._do(tried, "trials")
            self.plan = tuning.chosen(self.plan, tried)
        same = planning.twins(self.plan, self.overrides, self.launcher)
        for twin in same:
            log.warning("note: %s", twin)
        planned = planning.cells(self.plan, self.overrides, self.launcher, self.base, same)
        planning.note_down(self.plan, planned, same, self.launcher, self.base)
        self._do(planned, "cells")
        table = load(self.base)
        print(f"\n{table.title}\n{report.to_text(table)}\n{words.verdict(table)}")
        for line in words.contrasts(table):
            print(f"- {line}")
        for path in report.write(table, self.base):
            print(path)
        for cell in self.failed:
            print(f"failed: {cell.label}: {_last_line(cell)} ({cell.directory / LOG})")
        return 1 if self.failed else 0

    def _do(self, planned: Sequence[PlannedCell], what: str) -> None:
        """Run those of the cells that are missing; cells that rows share are run once."""
        cells = list({cell.directory: cell for cell in reversed(planned)}.values())[::-1]
        self.missing, self.failed, self.finished = [cell for cell in cells if cell.result() is None], [], 0
        complete = len(cells) - len(self.missing)
        if self.missing:
            log.info("%d of %d %s are complete, %d to do", complete, len(cells), what, len(self.missing))
            self._all_cells(list(self.missing))
        else:
            log.info("all %d %s are complete, nothing is trained", len(cells), what)
        if len(self.failed) == len(cells):
            raise UserError(f"all {what} failed; the first one's log is {self.failed[0].directory / LOG}")

    def _all_cells(self, waiting: list[PlannedCell]) -> None:
        begin = time.monotonic()
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.jobs:
                    self._start(waiting.pop(0))
                time.sleep(0.2)
                for process in [process for process in self.running if process.poll() is not None]:
                    self._done(process, begin)
                self._status(begin)
        finally:
            for process in self.running:
                launch.end(process)

    def _start(self, cell: PlannedCell) -> None:
        cell.directory.mkdir(parents=True, exist_ok=True)
        with (cell.directory / LOG).open("w") as output:
            process = self.launcher.start(cell.overrides, cell.directory, output, trial=cell.option is not None)
            self.running[process] = cell, time.monotonic()

    def _done(self, process: launch.Child, begin: float) -> None:
        cell, started = self.running.pop(process)
        self.finished += 1
        result = cell.result()
        seconds = time.monotonic() - started
        count = f"[{self.finished} of {len(self.missing)}]"
        _clear()
        if result is None:
            self.failed.append(cell)
            print(f"{count} {cell.label}: failed after {words.duration(seconds)}: {_last_line(cell)}", flush=True)
            return
        if cell.option:
            recall = f"minival macro recall {100 * result['minival_macro_recall']:.1f}"
        else:
            recall = f"macro recall {100 * result['metrics']['macro_recall']:.1f}"
        left = "" if self.finished == len(self.missing) else f", about {words.duration(self._left(begin))} left"
        print(f"{count} {cell.label}: {recall} in {words.duration(seconds)}{left}", flush=True)
        if self.finished < len(self.missing) and not cell.option:
            print(report.to_text(load(self.base)), flush=True)

    def _left(self, begin: float) -> float:
        """Seconds left: what is done took its time, a running cell counts for the share its age suggests."""
        spent = time.monotonic() - begin
        each = spent * min(self.jobs, len(self.missing)) / (self.finished + 0.5 * len(self.running))
        open_cells = len(self.missing) - self.finished - 0.5 * len(self.running)
        return each * open_cells / self.jobs

    def _status(self, begin: float) -> None:
        """On a terminal: a line that is written over, with what is running."""
        if sys.stdout.isatty():
            running = "; ".join(f"{cell.label} ({_last_line(cell)})" for cell, _ in self.running.values())
            clock = words.duration(time.monotonic() - begin)
            print(
                f"\r\x1b[K{self.finished} of {len(self.missing)} done, {clock}; {running}"[:118],
                end="",
                flush=True,
            )


def _clear() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")


def _last_line(cell: PlannedCell) -> str:
    """The last line of a cell's log: what it is doing, or what went wrong."""
    try:
        lines = (cell.directory / LOG).read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return lines[-1].strip() if lines else "starting"

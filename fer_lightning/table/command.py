"""``fer table``: run, plan or show a table."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fer_lightning import launch
from fer_lightning.config import compose
from fer_lightning.errors import UserError
from fer_lightning.layout import tables
from fer_lightning.table import plan as planning
from fer_lightning.table import report, words
from fer_lightning.table.plan import PlannedCell, TablePlan
from fer_lightning.table.rows import load

log = logging.getLogger(__name__)

LOG = "log.txt"


def table(arguments: Sequence[str]) -> int:
    """Run ``fer table`` with these arguments. Returns the exit code.

    Raises:
        UserError: something the user can mend.
    """
    options = _parser().parse_intermixed_args(arguments)
    if options.action == "show":
        return _show(Path(options.name), options.out)
    if options.overrides and options.overrides[0].startswith("-"):
        raise UserError(f"fer table: unknown option {options.overrides[0]}")
    plan = planning.load(options.name)
    if options.seeds:
        plan = plan.model_copy(update={"seeds": _seeds(options.seeds)})
    planning.validate(plan, options.overrides, options.config_dir)
    base = options.out or Path("runs") / plan.name
    if options.action == "plan":
        return _plan(plan, options.overrides, options.config_dir, base)
    return Run(plan, options.overrides, options.config_dir, base, options.jobs).run()


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {text}: give whole numbers with commas between them, e.g. 0,1,2") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fer table",
        description="Run a table of experiments, plan it, or show what a folder of cells holds.",
        epilog=f"tables: {', '.join(tables())}. Overrides as for `fer train`, e.g. data.root=/data/AffectNet.",
    )
    parser.add_argument("action", choices=["run", "plan", "show"])
    parser.add_argument("name", help="a table, or the path of its file; for show: a folder of cells")
    parser.add_argument("overrides", nargs="*", help="group=option or key=value, for every cell")
    parser.add_argument("--out", type=Path, help="run, plan: folder of the cells (runs/TABLE); show: of the files")
    parser.add_argument("--jobs", type=int, help="cells at a time (as many as the cores and devices allow)")
    parser.add_argument("--seeds", help="other seeds than the table's, e.g. 0,1,2,3,4")
    parser.add_argument("--config-dir", help="a folder with further options")
    return parser


def _show(directory: Path, out: Path | None) -> int:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; give a folder of cells, such as runs/embedded")
    print(report.to_text(load(directory)))
    for path in report.write(directory, out or directory):
        print(path)
    return 0


def _plan(plan: TablePlan, overrides: Sequence[str], config_dir: str | None, base: Path) -> int:
    launcher = launch.Launcher(config_dir)
    count = len(plan.rows) * len(plan.seeds)
    print(f"{plan.title}\n{count} cells in {base}: {len(plan.rows)} rows, seeds {', '.join(map(str, plan.seeds))}")
    hours, disk = 0.0, 0.0
    for row in plan.rows:
        words = [*plan.overrides, *row.overrides, *overrides]
        cost = launcher.measure(words)
        missing = [seed for seed in plan.seeds if not launcher.is_complete([*words, f"seed={seed}"], base)]
        seconds = sum(cost["fits"].values()) + cost["embed"] * cost["rows"]["test"]
        hours += len(missing) * seconds / 3600
        disk += len(missing) * cost["disk"]["checkpoint"]
        print(f"  {row.method}: {len(missing)} of {len(plan.seeds)} missing, about {_duration(seconds)} each")
    hours += cost["embed"] * cost["rows"]["train"] / 3600
    disk += cost["disk"]["faces"] + cost["disk"]["embeddings"]
    jobs = _jobs(compose([*plan.overrides, *overrides], config_dir))
    print(f"disk: {disk / 1e9:.2f} GB (faces {cost['disk']['faces'] / 1e9:.2f} of it)")
    print(
        f"time: about {_duration(3600 * hours / jobs)}, {jobs} cells at a time, estimated from some measured steps"
    )
    return 0


def _jobs(config: dict[str, dict[str, int | str]]) -> int:
    """Cells at a time: what the cores allow where one cell is one CPU process, else one."""
    trainer = config["trainer"]
    if trainer["accelerator"] != "cpu" or int(trainer["devices"]) > 1:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(trainer["threads"])))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Run:
    """A table being run: its missing cells, some at a time, each in a process tree of its own."""

    def __init__(
        self, plan: TablePlan, overrides: Sequence[str], config_dir: str | None, base: Path, jobs: int | None
    ) -> None:
        self.plan = plan
        self.overrides = overrides
        self.base = base
        self.launcher = launch.Launcher(config_dir)
        self.jobs = jobs or _jobs(compose([*plan.overrides, *overrides], config_dir))
        self.running: dict[launch.Child, tuple[PlannedCell, float]] = {}
        self.failed: list[PlannedCell] = []
        self.finished = 0

    def run(self) -> int:
        """Run what is missing and write the table's files. Returns 1 where a cell failed."""
        same = planning.twins(self.plan, self.overrides, self.launcher)
        for twin in same:
            log.warning("note: %s", twin)
        planned = planning.cells(self.plan, self.overrides, self.launcher, self.base, same)
        planning.note_down(self.plan, planned, same, self.launcher, self.base)
        planned = list({cell.directory: cell for cell in reversed(planned)}.values())[::-1]
        self.missing = [cell for cell in planned if cell.result() is None]
        complete = len(planned) - len(self.missing)
        if self.missing:
            log.info("%d of %d cells are complete, %d to do", complete, len(planned), len(self.missing))
            self._all_cells(list(self.missing))
        else:
            log.info("all %d cells are complete, nothing is trained", len(planned))
        if len(self.failed) == len(planned):
            raise UserError(f"every cell failed; the first one's log is {self.failed[0].directory / LOG}")
        table = load(self.base)
        print(f"\n{table.title}\n{report.to_text(table)}\n{words.verdict(table)}")
        for line in words.contrasts(table):
            print(f"- {line}")
        for path in report.write(self.base, self.base):
            print(path)
        for cell in self.failed:
            print(f"failed: {cell.label}: {_last_line(cell)} ({cell.directory / LOG})")
        return 1 if self.failed else 0

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
            self.running[self.launcher.start(cell.overrides, cell.directory, output)] = cell, time.monotonic()

    def _done(self, process: launch.Child, begin: float) -> None:
        cell, started = self.running.pop(process)
        self.finished += 1
        result = cell.result()
        seconds = time.monotonic() - started
        count = f"[{self.finished} of {len(self.missing)}]"
        _clear()
        if result is None:
            self.failed.append(cell)
            print(f"{count} {cell.label}: failed after {_duration(seconds)}: {_last_line(cell)}", flush=True)
            return
        recall = f"macro recall {100 * result['metrics']['macro_recall']:.1f}"
        left = "" if self.finished == len(self.missing) else f", about {_duration(self._left(begin))} left"
        print(f"{count} {cell.label}: {recall} in {_duration(seconds)}{left}", flush=True)
        if self.finished < len(self.missing):
            print(report.to_text(load(self.base)), flush=True)

    def _left(self, begin: float) -> float:
        """Seconds left: what is done took its time, a running cell counts for the share its age suggests."""
        now = time.monotonic()
        if not self.finished:
            return float("nan")
        each = (now - begin) * min(self.jobs, len(self.missing)) / (self.finished + 0.5 * len(self.running))
        open_cells = len(self.missing) - self.finished - 0.5 * len(self.running)
        return each * open_cells / self.jobs

    def _status(self, begin: float) -> None:
        """On a terminal: a line that is written over, with what is running."""
        if sys.stdout.isatty():
            running = "; ".join(f"{cell.label} ({_last_line(cell)})" for cell, _ in self.running.values())
            clock = _duration(time.monotonic() - begin)
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

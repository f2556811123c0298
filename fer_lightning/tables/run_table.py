"""Running a table: its search, its missing runs, and its output."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_lightning.config.overrides import apart
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.results import LOG, TRIALS
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.planner import Planner
from fer_lightning.sweeps.run_sweep import Sweep
from fer_lightning.tables import plan as planning
from fer_lightning.tables import tune
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.output import exports, verdicts
from fer_lightning.tables.output.page import page
from fer_lightning.tables.plan import RowRun, TablePlan

log = logging.getLogger(__name__)


def jobs_at_a_time(config: dict[str, dict[str, int | str]]) -> int:
    """Return how many runs to train at a time: as the cores allow where a run is one CPU process, else one."""
    trainer = config["trainer"]
    if trainer["accelerator"] != "cpu" or int(trainer["devices"]) > 1:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(trainer["threads"])))


class Run:
    """A table being run.

    Args:
        plan: rows and settings of the table.
        overrides: overrides of every run; those that begin with ``hydra`` configure the launcher.
        planner: plans the runs.
        base: folder of the runs.
        jobs: number of runs at a time; None: as the machine allows, or the launcher says.
        retry_failed: whether to train runs again that failed before.
    """

    def __init__(
        self,
        plan: TablePlan,
        overrides: Sequence[str],
        planner: Planner,
        base: Path,
        jobs: int | None = None,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.plan = plan
        self.overrides, self.hydra_words = apart(overrides)
        self.base = base
        self.planner = planner
        self.retry_failed = retry_failed
        if not any(word.startswith("hydra/launcher") for word in self.hydra_words):
            jobs = jobs or jobs_at_a_time(planner.compose([*plan.overrides, *self.overrides]))
            if jobs > 1:
                self.hydra_words += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
        elif jobs:
            raise UserError("fer table: --jobs is for this machine; say the launcher's own setting instead")

    def run(self) -> int:
        """Run what is missing and write the table's files. Returns 1 where a run is not complete."""
        record: dict[str, Any] = {"command": self._command()}
        if search := self.plan.tune:
            tried = tune.trials(self.plan, search, self.overrides, self.planner, self.base)
            self._do(tried, self.base / TRIALS, "trials")
            self.plan, record["search"] = tune.chosen(self.plan, search, tried)
            record["search_seeds"] = search.seeds
        same = planning.twins(self.plan, self.overrides, self.planner)
        for twin in same:
            log.warning("notice: %s", twin)
        planned = planning.runs(self.plan, self.overrides, self.planner, self.base, same)
        planning.note_down(self.plan, planned, same, self.planner, self.base, **record)
        missing = self._do(planned, self.base, "runs")
        table = load(self.base)
        print(f"\n{table.title}\n{exports.to_text(table)}\n{verdicts.verdict(table)}")
        for line in verdicts.contrasts(table):
            print(f"- {line}")
        for path in exports.write(table, self.base):
            print(path)
        print(page.write(table, self.base)[-1])
        return 1 if missing else 0

    def _command(self) -> str:
        """Return the command that makes the table again, with paths cut to their last part."""
        words = []
        for word in self.overrides:
            key, _, value = word.partition("=")
            words.append(f"{key}={Path(value).name}" if Path(value).is_absolute() else word)
        untuned = ["--untuned"] if tune.UNTUNED in self.plan.notes else []
        seeds = ",".join(map(str, self.plan.seeds))
        return shlex.join(["fer", "table", "run", self.plan.name, *words, "--seeds", seeds, *untuned])

    def _do(self, planned: Sequence[RowRun], base: Path, what: str) -> list[PlannedRun]:
        """Train the missing runs. Returns those that are still missing."""
        runs = [run.run for run in planned]
        config_dir = self.planner.config_dir
        sweep = Sweep(runs, base, self.hydra_words, config_dir, what=what, retry_failed=self.retry_failed)
        missing = sweep.run()
        if len(missing) == len(sweep.runs):
            raise UserError(f"all {what} failed; the first one's log is {missing[0].directory / LOG}")
        return missing

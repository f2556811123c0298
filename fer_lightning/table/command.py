"""``fer table``: run, plan or show a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import UserError
from fer_lightning.layout import tables
from fer_lightning.overrides import apart
from fer_lightning.progress import duration
from fer_lightning.sweep.planner import Planner
from fer_lightning.table import plan as planning
from fer_lightning.table import report, tuning, upload
from fer_lightning.table.plan import TablePlan
from fer_lightning.table.rows import load
from fer_lightning.table.running import Run, jobs_at_a_time


def table(arguments: Sequence[str]) -> int:
    """Run ``fer table`` with these arguments. Returns the exit code.

    Raises:
        UserError: something the user can mend.
    """
    options = _parser().parse_intermixed_args(arguments)
    if options.action == "show":
        return _show(Path(options.name), options.out)
    if options.action == "upload":
        return upload.upload(Path(options.name), options.project, offline=options.offline)
    if options.overrides and options.overrides[0].startswith("-"):
        raise UserError(f"fer table: unknown option {options.overrides[0]}")
    own, _ = apart(options.overrides)
    plan = planning.load(options.name)
    if options.seeds:
        plan = plan.model_copy(update={"seeds": _seeds(options.seeds)})
    if options.untuned and plan.tune:
        plan = plan.model_copy(update={"tune": None, "notes": [*plan.notes, tuning.UNTUNED]})
    planner = Planner(options.config_dir)
    planning.validate(plan, own, planner)
    tuning.check(plan, own, planner)
    base = options.out or Path("runs") / plan.name
    if options.action == "plan":
        return _plan(plan, own, planner, base)
    return Run(plan, options.overrides, planner, base, options.jobs, retry_failed=options.retry_failed).run()


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
    parser.add_argument("action", choices=["run", "plan", "show", "upload"])
    parser.add_argument("name", help="a table, or the path of its file; for show, upload: a folder of cells")
    parser.add_argument("overrides", nargs="*", help="group=option or key=value, for every cell")
    parser.add_argument("--out", type=Path, help="run, plan: folder of the cells (runs/TABLE); show: of the files")
    parser.add_argument("--jobs", type=int, help="cells at a time (as many as the cores and devices allow)")
    parser.add_argument(
        "--retry-failed", action="store_true", help="train those anew that failed in an earlier run"
    )
    parser.add_argument("--seeds", help="other seeds than the table's, e.g. 0,1,2,3,4")
    parser.add_argument("--project", default="fer_lightning", help="upload: at Weights & Biases")
    parser.add_argument("--offline", action="store_true", help="upload: only write runs for `wandb sync`")
    parser.add_argument("--untuned", action="store_true", help="leave out the search that the table's file wants")
    parser.add_argument("--config-dir", help="a folder with further options")
    return parser


def _show(directory: Path, out: Path | None) -> int:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; give a folder of cells, such as runs/embedded")
    table = load(directory)
    print(report.to_text(table))
    for path in report.write(table, out or directory):
        print(path)
    return 0


def _plan(plan: TablePlan, overrides: Sequence[str], planner: Planner, base: Path) -> int:
    rows = list({tuple(row.overrides): row for row in reversed(plan.rows)}.values())[
        ::-1
    ]  # some share their cells
    tries = [len(tuning.options(plan, row)) * len(plan.tune.seeds if plan.tune else ()) for row in rows]
    seeds, cells = ", ".join(map(str, plan.seeds)), sum(len(plan.seeds_of(row)) for row in rows)
    print(f"{plan.title}\n{cells} cells in {base}: {len(rows)} rows, seeds {seeds}")
    if sum(tries):
        print(f"{sum(tries)} trials before them, {tries[0]} a row; which cells there are depends on them")
    hours, disk = 0.0, 0.0
    for row, trials in zip(rows, tries, strict=True):
        words = [*plan.overrides, *row.overrides, *overrides]
        cost = planner.measure(words)
        own = ([*words, f"seed={seed}"] for seed in plan.seeds_of(row))
        missing = [cell for cell in own if trials or not planner.is_complete(cell, base)]
        fits = sum(cost["fits"].values())
        seconds = fits + cost["embed"] * cost["rows"]["test"]
        hours += (len(missing) * seconds + trials * fits) / 3600
        disk += len(missing) * cost["disk"]["checkpoint"]
        print(
            f"  {row.method}: {len(missing)} of {len(plan.seeds_of(row))} missing, about {duration(seconds)} each"
        )
    hours += cost["embed"] * cost["views"] * cost["rows"]["train"] / 3600
    disk += cost["disk"]["faces"] + cost["disk"]["embeddings"]
    jobs = jobs_at_a_time(planner.compose([*plan.overrides, *overrides]))
    print(f"disk: {disk / 1e9:.2f} GB (faces {cost['disk']['faces'] / 1e9:.2f} of it)")
    print(
        f"time: about {duration(3600 * hours / jobs)}, {jobs} cells at a time, estimated from some measured steps"
    )
    return 0

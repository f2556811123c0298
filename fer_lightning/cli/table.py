"""``fer table``: plan, run, show or upload a table; compare two checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.config.shipped import tables
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.core.files import user_path
from fer_lightning.core.parser import Parser
from fer_lightning.core.progress import duration

if TYPE_CHECKING:
    from fer_lightning.sweeps.planner import Planner
    from fer_lightning.tables.plan import TablePlan

# Each action imports what it needs once its options are parsed: --help must not wait for SciPy, pydantic, Hydra.


def table(words: Sequence[str]) -> int:
    """Run ``fer table``; return the exit code.

    Raises:
        UserError: the user can mend it.
    """
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    action, *rest = words
    if action not in ACTIONS:
        raise UserError(f"fer table {action}: the actions are {', '.join(ACTIONS)}{did_you_mean(action, ACTIONS)}")
    return ACTIONS[action][0](rest)


def _usage() -> str:
    lines = ["usage: fer table ACTION ...", ""]
    lines += [f"  {name:<9} {text}" for name, (_, text) in ACTIONS.items()]
    lines += ["", f"tables: {', '.join(tables())}, or the path of a file. `fer table ACTION --help` says more."]
    return "\n".join(lines)


def _run(words: Sequence[str]) -> int:
    parser = _planning_parser("run")
    parser.add_argument("--retry-failed", action="store_true", help="train the runs anew that failed earlier")
    options = parser.parse_intermixed_args(words)
    from fer_lightning.tables.run_table import Run

    plan, planner, base = _planned(options)
    return Run(plan, options.overrides, planner, base, options.jobs, retry_failed=options.retry_failed).run()


def _plan(words: Sequence[str]) -> int:
    options = _planning_parser("plan").parse_intermixed_args(words)
    from fer_lightning.config.overrides import apart
    from fer_lightning.tables.run_table import jobs_at_a_time

    plan, planner, base = _planned(options)
    overrides, _ = apart(options.overrides)
    jobs = options.jobs or jobs_at_a_time(planner.compose([*plan.overrides, *overrides]))
    _print_cost(plan, overrides, planner, base, jobs)
    return 0


def _show(words: Sequence[str]) -> int:
    parser = _parser("show")
    parser.add_argument("directory", type=Path, help="a folder of runs")
    parser.add_argument("--out", type=Path, help="the folder to write to (by default that of the runs)")
    parser.add_argument("--allow-partial", action="store_true", help="show the table although runs are missing")
    options = parser.parse_args(words)
    _require_folder(options.directory)
    from fer_lightning.tables.analysis.rows import load
    from fer_lightning.tables.output import exports
    from fer_lightning.tables.output.page import page

    table = load(options.directory)
    if table.missing and not options.allow_partial:
        raise UserError(
            f"{options.directory}: {table.missing}; run the rest, or give --allow-partial to show it without them"
        )
    out = options.out or options.directory
    print(exports.to_text(table))
    for path in (*exports.write(table, out), page.write(table, out)[-1]):
        print(path)
    return 0


def _compare(words: Sequence[str]) -> int:
    parser = _parser("compare")
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN", help="the folder of a run")
    options = parser.parse_args(words)
    from fer_lightning.tables.compare_checkpoints import compare

    print(compare(*options.runs))
    return 0


def _folds(words: Sequence[str]) -> int:
    parser = _parser("folds")
    parser.add_argument("directory", type=Path, help="a folder of runs with data.folds and each data.fold")
    options = parser.parse_args(words)
    _require_folder(options.directory)
    from fer_lightning.tables.analysis.folds import load
    from fer_lightning.tables.output import folds_table

    methods = load(options.directory)
    print(folds_table.to_text(methods))
    print(folds_table.write(methods, options.directory))
    return 0


def _upload(words: Sequence[str]) -> int:
    parser = _parser("upload")
    parser.add_argument("directory", type=Path, help="a folder of runs")
    parser.add_argument("--project", default="fer_lightning", help="the project (by default fer_lightning)")
    parser.add_argument("--offline", action="store_true", help="send nothing, but write runs for `wandb sync`")
    options = parser.parse_args(words)
    _require_folder(options.directory)
    from fer_lightning.tables.upload import upload

    return upload(options.directory, options.project, offline=options.offline)


ACTIONS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "run": (_run, "run a table: its search and its missing runs; then show it"),
    "plan": (_plan, "show which runs are missing, and what disk space and time they take"),
    "show": (_show, "show the table of a folder of runs"),
    "folds": (_folds, "show the table over folds (data.folds), with intervals over persons"),
    "compare": (_compare, "compare two checkpoints: McNemar's test"),
    "upload": (_upload, "send a folder's runs and its table to Weights & Biases"),
}
"""Every action of ``fer table`` with its function and its help."""


def _parser(action: str) -> Parser:
    return Parser(prog=f"fer table {action}", description=f"{ACTIONS[action][1]}.".capitalize())


def _planning_parser(action: str) -> Parser:
    parser = _parser(action)
    parser.epilog = f"tables: {', '.join(tables())}. Overrides as for `fer train`, e.g. data.root=/data/AffectNet."
    parser.add_argument("name", help="a table, or the path of its file")
    parser.add_argument("overrides", nargs="*", help="group=option or key=value, for every run")
    parser.add_argument("--out", type=Path, help="the folder of the runs (by default runs/TABLE)")
    parser.add_argument("--jobs", type=int, help="runs at a time (by default as many as cores and devices allow)")
    parser.add_argument("--seeds", help="seeds in place of the table's, e.g. 0,1,2,3,4")
    parser.add_argument("--untuned", action="store_true", help="leave out the search of the table's file")
    parser.add_argument("--config-dir", help="a folder with further options")
    return parser


def _planned(options: argparse.Namespace) -> tuple[TablePlan, Planner, Path]:
    """Return the table that the options name, checked; the planner of its runs; and their folder."""
    from fer_lightning.config.overrides import RUN_DIR, SWEEP_DIR, apart, refuse
    from fer_lightning.sweeps.planner import Planner
    from fer_lightning.tables import plan as planning
    from fer_lightning.tables import tune

    overrides, of_hydra = apart(options.overrides)
    refuse(of_hydra, lambda key: key in (RUN_DIR, SWEEP_DIR), "fer table", "--out FOLDER")
    plan = planning.load(options.name)
    if options.seeds:
        try:
            seeds = [int(seed) for seed in options.seeds.split(",")]
        except ValueError as error:
            raise UserError(
                f"--seeds {options.seeds}: give whole numbers with commas between them, e.g. 0,1,2"
            ) from error
        plan = plan.model_copy(update={"seeds": seeds})
    if options.untuned:
        plan = tune.untuned(plan)
    planner = Planner(options.config_dir)
    planning.validate(plan, overrides, planner)
    tune.check(plan, overrides, planner)
    return plan, planner, user_path(options.out or Path("runs") / plan.name)


def _require_folder(directory: Path) -> None:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; give a folder of runs, such as runs/embedded")


def _print_cost(plan: TablePlan, overrides: Sequence[str], planner: Planner, base: Path, jobs: int) -> None:
    """Print how many runs of each row are missing, and an estimate of their disk space and time."""
    rows = [*{tuple(row.overrides): row for row in reversed(plan.rows)}.values()][::-1]  # rows may share runs
    trials = plan.tune.trials * len(plan.tune.seeds) if plan.tune else 0
    seeds, runs = ", ".join(map(str, plan.seeds)), sum(len(plan.seeds_of(row)) for row in rows)
    print(f"{plan.title}\n{runs} runs in {base}: {len(rows)} rows, seeds {seeds}")
    if trials:
        print(f"{trials * len(rows)} trials before them, {trials} a row; the runs depend on their results")
    hours, disk, activations = 0.0, 0.0, 0
    notices: dict[str, None] = {}  # each once
    for row in rows:
        words = [*plan.overrides, *row.overrides, *overrides]
        cost = planner.measure(words)
        runs_of_row = ([*words, f"seed={seed}"] for seed in plan.seeds_of(row))
        missing = [run for run in runs_of_row if trials or not planner.is_complete(run, base)]
        training = sum(cost["stages"].values())
        seconds = training + cost["embed"] * cost["rows"]["test"]
        hours += (len(missing) * seconds + trials * training) / 3600
        disk += len(missing) * cost["disk"]["checkpoint"]
        activations = max(activations, cost["disk"]["activations"])  # which rows share
        notices |= dict.fromkeys(cost["notices"])
        print(
            f"  {row.method}: {len(missing)} of {len(plan.seeds_of(row))} missing, about {duration(seconds)} each"
        )
    hours += cost["embed"] * cost["views"] * cost["rows"]["train"] / 3600
    disk += cost["disk"]["faces"] + cost["disk"]["embeddings"] + activations
    kept = f", activations {activations / 1e9:.2f}" if activations else ""
    print(f"disk: {disk / 1e9:.2f} GB (faces {cost['disk']['faces'] / 1e9:.2f} of it{kept})")
    for text in notices:
        print(f"notice: {text}")
    print(
        f"time: about {duration(3600 * hours / jobs)}, {jobs} runs at a time, estimated from some measured steps"
    )

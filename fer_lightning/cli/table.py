"""``fer table``: plan, run, show or upload a table; compare two checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_lightning.config.overrides import RUN_DIR, SWEEP_DIR, apart, refuse
from fer_lightning.config.shipped import tables
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.core.parser import Parser
from fer_lightning.core.progress import duration
from fer_lightning.sweeps.planner import Planner
from fer_lightning.tables import plan as planning
from fer_lightning.tables import tune
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.compare_checkpoints import compare
from fer_lightning.tables.output import exports
from fer_lightning.tables.output.page import page
from fer_lightning.tables.plan import TablePlan
from fer_lightning.tables.run_table import Run, jobs_at_a_time


def table(arguments: Sequence[str]) -> int:
    """Run ``fer table`` with these arguments. Returns the exit code.

    Raises:
        UserError: something the user can mend.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    action, *words = arguments
    if action not in ACTIONS:
        raise UserError(f"fer table {action}: there is {', '.join(ACTIONS)}{did_you_mean(action, ACTIONS)}")
    return ACTIONS[action][0](words)


def _usage() -> str:
    lines = ["usage: fer table ACTION ...", ""]
    lines += [f"  {name:<9} {text}" for name, (_, text) in ACTIONS.items()]
    lines += ["", f"tables: {', '.join(tables())}, or the path of a file. `fer table ACTION --help` says more."]
    return "\n".join(lines)


def _run(words: Sequence[str]) -> int:
    parser = _parser_of_a_table("run")
    parser.add_argument(
        "--retry-failed", action="store_true", help="train those anew that failed in an earlier run"
    )
    options = parser.parse_intermixed_args(words)
    plan, planner, base = _planned(options)
    run = Run(plan, options.overrides, planner, base, options.jobs, retry_failed=options.retry_failed)
    return run.run()


def _plan(words: Sequence[str]) -> int:
    options = _parser_of_a_table("plan").parse_intermixed_args(words)
    plan, planner, base = _planned(options)
    own, _ = apart(options.overrides)
    jobs = options.jobs or jobs_at_a_time(planner.compose([*plan.overrides, *own]))
    return _tell(plan, own, planner, base, jobs)


def _show(words: Sequence[str]) -> int:
    parser = _parser("show")
    parser.add_argument("directory", type=Path, help="a folder of runs")
    parser.add_argument("--out", type=Path, help="folder of the files (that of the runs)")
    parser.add_argument("--allow-partial", action="store_true", help="although runs are missing")
    options = parser.parse_args(words)
    _need_folder(options.directory)
    table = load(options.directory)
    if table.missing and not options.allow_partial:
        raise UserError(
            f"{options.directory}: {table.missing}; run the rest, or say --allow-partial to see it without them"
        )
    out = options.out or options.directory
    print(exports.to_text(table))
    for path in (*exports.write(table, out), page.write(table, out)[-1]):
        print(path)
    return 0


def _compare(words: Sequence[str]) -> int:
    parser = _parser("compare")
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN", help="the folder of a run")
    print(compare(*parser.parse_args(words).runs))
    return 0


def _upload(words: Sequence[str]) -> int:
    from fer_lightning.tables.upload import upload

    parser = _parser("upload")
    parser.add_argument("directory", type=Path, help="a folder of runs")
    parser.add_argument("--project", default="fer_lightning", help="at Weights & Biases (fer_lightning)")
    parser.add_argument("--offline", action="store_true", help="only write runs for `wandb sync`")
    options = parser.parse_args(words)
    _need_folder(options.directory)
    return upload(options.directory, options.project, offline=options.offline)


ACTIONS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "run": (_run, "run a table: its search, its missing runs, what it then shows"),
    "plan": (_plan, "say what that would take"),
    "show": (_show, "show what a folder of runs holds"),
    "compare": (_compare, "compare two checkpoints: McNemar's test"),
    "upload": (_upload, "send a folder's runs and its table to Weights & Biases"),
}


def _parser(action: str) -> Parser:
    return Parser(prog=f"fer table {action}", description=f"{ACTIONS[action][1]}.".capitalize())


def _parser_of_a_table(action: str) -> Parser:
    parser = _parser(action)
    parser.epilog = f"tables: {', '.join(tables())}. Overrides as for `fer train`, e.g. data.root=/data/AffectNet."
    parser.add_argument("name", help="a table, or the path of its file")
    parser.add_argument("overrides", nargs="*", help="group=option or key=value, for every run")
    parser.add_argument("--out", type=Path, help="folder of the runs (runs/TABLE)")
    parser.add_argument("--jobs", type=int, help="runs at a time (as many as the cores and devices allow)")
    parser.add_argument("--seeds", help="other seeds than the table's, e.g. 0,1,2,3,4")
    parser.add_argument("--untuned", action="store_true", help="leave out the search that the table's file wants")
    parser.add_argument("--config-dir", help="a folder with further options")
    return parser


def _planned(options: argparse.Namespace) -> tuple[TablePlan, Planner, Path]:
    """The table that is meant, checked; who knows its runs; and their folder."""
    if options.overrides and options.overrides[0].startswith("-"):
        raise UserError(f"fer table: unknown option {options.overrides[0]}")
    own, of_hydra = apart(options.overrides)
    refuse(of_hydra, lambda key: key in (RUN_DIR, SWEEP_DIR), "fer table", "--out FOLDER")
    plan = planning.load(options.name)
    if options.seeds:
        plan = plan.model_copy(update={"seeds": _seeds(options.seeds)})
    if options.untuned:
        plan = tune.untuned(plan)
    planner = Planner(options.config_dir)
    planning.validate(plan, own, planner)
    tune.check(plan, own, planner)
    return plan, planner, (options.out or Path("runs") / plan.name).expanduser()


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {text}: give whole numbers with commas between them, e.g. 0,1,2") from error


def _need_folder(directory: Path) -> None:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; give a folder of runs, such as runs/embedded")


def _tell(plan: TablePlan, overrides: Sequence[str], planner: Planner, base: Path, jobs: int) -> int:
    rows = [*{tuple(row.overrides): row for row in reversed(plan.rows)}.values()][::-1]  # some share their runs
    tries = [len(tune.options(plan, row)) * len(plan.tune.seeds if plan.tune else ()) for row in rows]
    seeds, runs = ", ".join(map(str, plan.seeds)), sum(len(plan.seeds_of(row)) for row in rows)
    print(f"{plan.title}\n{runs} runs in {base}: {len(rows)} rows, seeds {seeds}")
    if sum(tries):
        print(f"{sum(tries)} trials before them, {tries[0]} a row; which runs there are depends on them")
    hours, disk = 0.0, 0.0
    for row, trials in zip(rows, tries, strict=True):
        words = [*plan.overrides, *row.overrides, *overrides]
        cost = planner.measure(words)
        own = ([*words, f"seed={seed}"] for seed in plan.seeds_of(row))
        missing = [run for run in own if trials or not planner.is_complete(run, base)]
        training = sum(cost["stages"].values())
        seconds = training + cost["embed"] * cost["rows"]["test"]
        hours += (len(missing) * seconds + trials * training) / 3600
        disk += len(missing) * cost["disk"]["checkpoint"]
        print(
            f"  {row.method}: {len(missing)} of {len(plan.seeds_of(row))} missing, about {duration(seconds)} each"
        )
    hours += cost["embed"] * cost["views"] * cost["rows"]["train"] / 3600
    disk += cost["disk"]["faces"] + cost["disk"]["embeddings"]
    print(f"disk: {disk / 1e9:.2f} GB (faces {cost['disk']['faces'] / 1e9:.2f} of it)")
    print(
        f"time: about {duration(3600 * hours / jobs)}, {jobs} runs at a time, estimated from some measured steps"
    )
    return 0

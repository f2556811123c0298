"""``fer sweep status FOLDER``: show which runs of a folder are done, running, failed, stopped or missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.parser import Parser


def sweep(words: Sequence[str]) -> int:
    """Run ``fer sweep``.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        UserError: the folder does not exist, or no run was planned or trained in it.
    """
    parser = Parser(prog="fer sweep", description="Show the state of each run in a folder.")
    parser.add_argument("action", choices=["status"])
    parser.add_argument("folder", type=Path, help="the folder of a sweep or table, e.g. runs/adhoc")
    folder = parser.parse_args(words).folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give that of a sweep or table, e.g. runs/adhoc")
    # imports Arrow, for which --help must not wait
    from fer_lightning.sweeps.planned_run import PlannedRun, State, read

    runs: dict[State, list[PlannedRun]] = {state: [] for state in State}
    for run in read(folder):
        runs[run.state()].append(run)
    total = sum(map(len, runs.values()))
    if not total:
        raise UserError(f"{folder}: no runs were planned or trained here; give the folder of a sweep or table")
    for state in reversed(State):
        for run in runs[state]:
            details = "" if state == State.MISSING else run.score_text() if run.is_done() else run.message()
            print(f"{state.value:<8} {run.label}{details and f': {details}'}")
    counts = ", ".join(f"{len(runs[state])} {state.value}" for state in State if runs[state])
    print(f"{total} runs: {counts}")
    if runs[State.FAILED]:
        print("to train the failed runs anew, run the sweep's command again with --retry-failed")
    return int(bool(runs[State.FAILED]))

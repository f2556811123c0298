"""``fer sweep``: what has become of the runs of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.parser import Parser
from fer_lightning.sweeps import planned_run
from fer_lightning.sweeps.planned_run import PlannedRun, State


def sweep(arguments: Sequence[str]) -> int:
    """Run ``fer sweep`` with these arguments. Returns 1 where a run failed.

    Raises:
        UserError: there is no such folder, or nothing in it.
    """
    parser = Parser(prog="fer sweep", description="Say what has become of the runs of a folder.")
    parser.add_argument("action", choices=["status"])
    parser.add_argument("folder", type=Path, help="of a sweep or table, e.g. runs/adhoc")
    folder = parser.parse_args(arguments).folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give that of a sweep or table, e.g. runs/adhoc")
    states: dict[State, list[PlannedRun]] = {state: [] for state in State}
    for run in planned_run.read(folder):
        states[run.state()].append(run)
    total = sum(map(len, states.values()))
    if not total:
        raise UserError(f"{folder}: no runs were planned or trained here; give the folder of a sweep or table")
    for state in reversed(State):
        for run in states[state]:
            print(f"{state.value:<8} {run.label}{_more(run, state)}")
    counts = ", ".join(f"{len(states[state])} {state.value}" for state in State if states[state])
    print(f"{total} runs: {counts}")
    if states[State.FAILED]:
        print("the sweep's own command with --retry-failed trains the failed ones anew")
    return 1 if states[State.FAILED] else 0


def _more(run: PlannedRun, state: State) -> str:
    if state == State.MISSING:
        return ""
    if state != State.DONE:
        return f": {run.says()}"
    tested, minival = run.score()
    test = "" if tested is None else f"macro recall {100 * tested:.1f}, "
    return f": {test}minival {100 * minival:.1f}"

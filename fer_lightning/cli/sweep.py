"""``fer sweep``: show the state of each run in a folder, or cancel their jobs of SLURM."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.core.errors import UserError
from fer_lightning.core.parser import Parser

if TYPE_CHECKING:
    from fer_lightning.sweeps.planned_run import PlannedRun, State
    from fer_lightning.sweeps.slurm_queue import Job


def sweep(words: Sequence[str]) -> int:
    """Run ``fer sweep``.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        UserError: the folder does not exist, or no run was planned or trained in it; SLURM does not answer.
    """
    options = _parser().parse_args(words)
    folder: Path = options.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give that of a sweep or table, e.g. runs/adhoc")
    return _cancel(folder) if options.action == "cancel" else _status(folder)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fer sweep",
        description="status: show whether each run in a folder is done, running, queued, failed, stopped or "
        "missing. cancel: cancel the jobs of SLURM that train its runs; the sweep's command submits them again.",
    )
    parser.add_argument("action", choices=["status", "cancel"])
    parser.add_argument("folder", type=Path, help="the folder of a sweep or table, e.g. runs/adhoc")
    return parser


def _status(folder: Path) -> int:
    # imports Arrow, for which --help must not wait
    from fer_lightning.sweeps.planned_run import State, read

    planned = read(folder)
    if not planned:
        raise UserError(f"{folder}: no runs were planned or trained here; give the folder of a sweep or table")
    jobs = _jobs(folder, planned)
    runs: dict[State, list[PlannedRun]] = {state: [] for state in State}
    for run in planned:
        runs[_state(run, jobs)].append(run)
    for state in reversed(State):
        for run in runs[state]:
            details = _details(run, state, jobs)
            print(f"{state.value:<8} {run.label}{details and f': {details}'}")
    counts = ", ".join(f"{len(runs[state])} {state.value}" for state in State if runs[state])
    print(f"{len(planned)} runs: {counts}")
    if runs[State.FAILED]:
        print("to train the failed runs anew, run the sweep's command again with --retry-failed")
    return int(bool(runs[State.FAILED]))


def _jobs(folder: Path, runs: Sequence[PlannedRun]) -> dict[str, Job]:
    """Return the jobs of SLURM that were submitted for runs which are not complete, by the run's name."""
    from fer_lightning.sweeps import slurm_jobs
    from fer_lightning.sweeps.slurm_queue import NoAnswerError

    if not slurm_jobs.noted(folder):
        return {}
    try:
        return slurm_jobs.seen(folder, [run for run in runs if not run.is_done()])
    except NoAnswerError as error:
        print(f"{error}: what follows is read from the runs' files alone")
        return {}


def _state(run: PlannedRun, jobs: dict[str, Job]) -> State:
    """Return the state of a run, read from its folder, and from its job where nobody trains it yet."""
    from fer_lightning.sweeps.planned_run import State

    state, job = run.state(), jobs.get(run.directory.name)
    if state in (State.STOPPED, State.MISSING) and job and not job.is_over:
        return State.QUEUED if job.waits else State.RUNNING
    return state


def _details(run: PlannedRun, state: State, jobs: dict[str, Job]) -> str:
    """Return what is told of a run beside its state."""
    from fer_lightning.evaluation.results import LOG
    from fer_lightning.sweeps.planned_run import State

    if run.is_done():
        return run.score_text()
    job, has_begun = jobs.get(run.directory.name), (run.directory / LOG).exists()
    told = [str(job)] if job else []
    if state == State.QUEUED:
        return ", ".join([*(["put back into the queue"] if has_begun else []), *told])
    return "; ".join([*told, *([run.message()] if has_begun or run.failure() else [])])


def _cancel(folder: Path) -> int:
    """Cancel the jobs of a folder's runs and, of a table's folder, those of its search."""
    from fer_lightning.evaluation.results import TRIALS
    from fer_lightning.sweeps import slurm_jobs
    from fer_lightning.sweeps.slurm_queue import NoAnswerError

    try:
        cancelled = {**slurm_jobs.cancel(folder), **slurm_jobs.cancel(folder / TRIALS)}
    except NoAnswerError as error:
        raise UserError(f"fer sweep cancel: {error}") from error
    for name, job in sorted(cancelled.items()):
        print(f"{job}: {name}")
    print(f"cancelled: {len(cancelled)}" if cancelled else "no job of these runs is in the queue")
    return 0

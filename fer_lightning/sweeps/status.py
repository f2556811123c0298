"""What ``fer sweep`` prints: the state of each run in a folder, from its files and its job of SLURM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.sweeps import planned_run, slurm_jobs
from fer_lightning.sweeps.planned_run import PlannedRun, State
from fer_lightning.sweeps.slurm_queue import Job, NoAnswerError


def show(folder: Path) -> int:
    """Print the state of each run in a folder.

    Returns:
        1 if a run failed, else 0.

    Raises:
        UserError: no run was planned or trained in it.
    """
    planned = planned_run.read(folder)
    if not planned:
        raise UserError(f"{folder}: no runs were planned or trained here; give the folder of a sweep or table")
    jobs = _jobs(folder, planned)
    runs: dict[State, list[PlannedRun]] = {state: [] for state in State}
    for run in planned:
        runs[_state(run, jobs.get(run.directory.name))].append(run)
    for state in reversed(State):
        for run in runs[state]:
            details = _details(run, state, jobs.get(run.directory.name))
            print(f"{state.value:<8} {run.label}{details and f': {details}'}")
    counts = ", ".join(f"{len(runs[state])} {state.value}" for state in State if runs[state])
    print(f"{len(planned)} runs: {counts}")
    if runs[State.FAILED]:
        print("to train the failed runs anew, run the sweep's command again with --retry-failed")
    return int(bool(runs[State.FAILED]))


def cancel(folder: Path) -> None:
    """Cancel the jobs of a folder's runs and, of a table's folder, those of its search; print which.

    Raises:
        UserError: SLURM does not answer.
    """
    try:
        cancelled = {**slurm_jobs.cancel(folder), **slurm_jobs.cancel(folder / results.TRIALS)}
    except NoAnswerError as error:
        raise UserError(f"fer sweep cancel: {error}") from error
    for name, job in sorted(cancelled.items()):
        print(f"{job}: {name}")
    print(f"cancelled: {len(cancelled)}" if cancelled else "no job of these runs is in the queue")


def _jobs(folder: Path, runs: Sequence[PlannedRun]) -> Mapping[str, Job]:
    """Return the jobs of SLURM that were submitted for runs which are not complete, by the run's name."""
    if not slurm_jobs.noted(folder):
        return {}
    try:
        return slurm_jobs.seen(folder, [run for run in runs if not run.is_done()])
    except NoAnswerError as error:
        print(f"{error}: what follows is read from the runs' files alone")
        return {}


def _state(run: PlannedRun, job: Job | None) -> State:
    """Return the state of a run, read from its folder, and from its job where nobody trains it yet."""
    state = run.state()
    if state in (State.STOPPED, State.MISSING) and job and not job.is_over:
        return State.QUEUED if job.waits else State.RUNNING
    return state


def _details(run: PlannedRun, state: State, job: Job | None) -> str:
    """Return what is told of a run beside its state."""
    if run.is_done():
        return run.score_text()
    has_begun = (run.directory / results.LOG).exists()
    told = [str(job)] if job else []
    if state == State.QUEUED:
        return ", ".join([*(["put back into the queue"] if has_begun else []), *told])
    return "; ".join([*told, *([run.message()] if has_begun or run.failure() else [])])

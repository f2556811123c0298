"""Runs as jobs of SLURM: submitit submits them, a file in the sweep's folder tells which job trains which run.

The command that submits jobs may end before them. Whoever asks for the same runs again finds their jobs in the
file, and waits for those that are still in the queue. What counts in the end are the files of the runs: submitit's
own results are not read, since a job that is requeued has left one before it ends.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation import results
from fer_lightning.run import claim
from fer_lightning.sweeps import slurm_queue
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.slurm_queue import Job, NoAnswerError
from fer_lightning.sweeps.train_run import train_run

log = logging.getLogger(__name__)

_NOTES = ".slurm.json"
_LOCK = ".slurm.lock"
_LONGEST_PAUSE = 15.0
_LAG = 30.0
"""Seconds that a file written on another machine may take to be seen on this one."""


@dataclass(frozen=True)
class SlurmTask:
    """What a job of SLURM does; submitit pickles it.

    Attributes:
        options: options of the child's command line.
    """

    options: tuple[str, ...]

    def __call__(self, run: PlannedRun) -> None:
        """Train a run.

        Raises:
            SystemExit: the run is not complete. submitit writes no result then, and for SLURM the job has failed.
        """
        from submitit.core.utils import UncompletedJobError

        # submitit requeues a job at SIGUSR2 only, and clusters send either
        signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR2))
        try:
            code = train_run(run, self.options)
        except UncompletedJobError as error:
            with (run.directory / results.LOG).open("a", encoding="utf-8") as file:
                file.write(
                    "its job reached its time limit; hydra.launcher.max_num_timeout=N lets it go on N times\n"
                )
            raise SystemExit(1) from error
        if code:
            raise SystemExit(code if code > 0 else 128 - code)

    def checkpoint(self, run: PlannedRun) -> Any:
        """Return what submitit puts into the queue when the job reaches its time limit: the same once more."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, run)


def is_slurm(launcher: Mapping[str, Any]) -> bool:
    """Return whether a launcher's settings are those of submitit's SLURM launcher."""
    return str(launcher.get("_target_")).endswith(".SlurmLauncher")


def noted(base: Path) -> dict[str, Job]:
    """Return the job of each run of a folder that was submitted, by the run's name, as it was last seen."""
    try:
        notes = json.loads((base / _NOTES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: Job(*job) for name, job in notes.items()}


def seen(base: Path, runs: Iterable[PlannedRun]) -> dict[str, Job]:
    """Return the jobs of runs as SLURM tells them now, by the run's name, and note them.

    Args:
        base: folder of the runs.
        runs: the runs; those that were not submitted are left out.

    Raises:
        NoAnswerError: SLURM does not answer.
    """
    notes = noted(base)
    before = {run.directory.name: notes[run.directory.name] for run in runs if run.directory.name in notes}
    known = slurm_queue.jobs({job.number for job in before.values()})
    now = {name: known[job.number] for name, job in before.items()}
    for name, job in now.items():
        if not job.state and before[name].is_over:  # SLURM has forgotten how it ended
            now[name] = before[name]
    _note(base, now)
    return now


def launch(
    runs: Sequence[PlannedRun], options: Sequence[str], base: Path, launcher: Mapping[str, Any]
) -> list[PlannedRun]:
    """Submit runs that are not in the queue, and wait until all have ended.

    Args:
        runs: runs that are not complete.
        options: options of the child's command line.
        base: folder of the runs.
        launcher: settings of Hydra's submitit_slurm.

    Returns:
        The runs that were not submitted, since a process that is no job of this folder was training them; it has
        ended.

    Raises:
        UserError: SLURM is not there, or refuses the jobs.
    """
    base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / _LOCK):
        try:
            queued = {name for name, job in seen(base, runs).items() if not job.is_over}
        except NoAnswerError as error:
            raise UserError(f"hydra/launcher=submitit_slurm: {error}") from error
        rest = [run for run in runs if run.directory.name not in queued]
        elsewhere = [run for run in rest if claim.is_claimed(run.directory)]
        submitted = [run for run in rest if run not in elsewhere]
        if submitted:
            numbers = _submit(SlurmTask(tuple(options)), submitted, launcher)
            names = [run.directory.name for run in submitted]
            _note(base, {name: Job(number, "PENDING") for name, number in zip(names, numbers, strict=True)})
    if queued:
        log.info("already jobs of SLURM: %d of these runs; they are waited for", len(queued))
    if submitted:
        log.info("submitted as jobs of SLURM: %d; they go on if this command ends", len(submitted))
    try:
        _wait(base, runs)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C or SIGTERM
        _tell_what_stays(base, runs)
        raise
    return elsewhere


def cancel(base: Path) -> dict[str, Job]:
    """Cancel the jobs of a folder's runs that have not ended; return them by the run's name.

    Raises:
        NoAnswerError: SLURM does not answer.
    """
    notes = noted(base)
    known = slurm_queue.jobs({job.number for job in notes.values()})
    active = {name: known[job.number] for name, job in notes.items() if not known[job.number].is_over}
    if active:
        slurm_queue.cancel([job.number for job in active.values()])
    return active


def _note(base: Path, jobs: Mapping[str, Job]) -> None:
    """Add jobs to the notes of a folder."""
    with FileLock(base / f"{_NOTES}.lock"):
        notes = noted(base)
        if notes != (now := {**notes, **jobs}):
            write_atomic(base / _NOTES, json.dumps(now))


def _submit(task: SlurmTask, runs: Sequence[PlannedRun], launcher: Mapping[str, Any]) -> list[str]:
    """Submit an array of jobs, one for each run; return their numbers.

    Raises:
        UserError: a setting does not exist, or sbatch refuses them.
    """
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf  # type: ignore[import-untyped]
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    settings = {key: value for key, value in launcher.items() if not key.startswith("_")}
    folder, timeouts = settings.pop("submitit_folder"), settings.pop("max_num_timeout")
    common = {field.name for field in fields(BaseQueueConf)}
    said = io.StringIO()  # submitit repeats what sbatch says
    try:
        with redirect_stderr(said):
            executor = AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            executor.update_parameters(**{k if k in common else f"slurm_{k}": v for k, v in settings.items()})
            return [job.job_id for job in executor.map_array(task, runs)]
    except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
        lines = (said.getvalue() or str(error)).strip().splitlines()
        reason = "; ".join(line.removeprefix("sbatch: error: ") for line in lines)
        raise UserError(f"hydra/launcher=submitit_slurm: sbatch refuses the jobs: {reason}") from error


def _wait(base: Path, runs: Sequence[PlannedRun]) -> None:
    """Wait until each run is complete, has failed, or is trained by nobody any more."""
    pause, silent, lost = 0.5, False, None
    jobs = noted(base)
    while waited := [run for run in runs if not run.is_done() and run.failure() is None]:
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_PAUSE)
        try:
            now = seen(base, waited)
        except NoAnswerError as error:
            if not silent:
                log.warning("%s; the jobs are waited for all the same", error)
            silent = True
            continue
        silent = False
        _tell_changes(waited, jobs, now)
        jobs.update(now)
        if any(_is_active(run, now) for run in waited):
            lost = None
        elif lost is None:
            lost, pause = time.monotonic(), 0.5
        elif time.monotonic() - lost > (_LAG if any(_may_have_ended_well(run, now) for run in waited) else 0.0):
            return


def _is_active(run: PlannedRun, jobs: Mapping[str, Job]) -> bool:
    """Return whether a run's job is in the queue, or another process trains the run."""
    job = jobs.get(run.directory.name)
    return (job is not None and not job.is_over) or claim.is_claimed(run.directory)


def _may_have_ended_well(run: PlannedRun, jobs: Mapping[str, Job]) -> bool:
    """Return whether a result of the run may be on its way, so that one has to wait a little longer for it."""
    job = jobs.get(run.directory.name)
    return job is not None and job.state in ("", "COMPLETED", "FAILED")


def _tell_changes(runs: Sequence[PlannedRun], before: Mapping[str, Job], now: Mapping[str, Job]) -> None:
    """Log which jobs were put back into the queue, and which ended without a result."""
    for run in runs:
        job, earlier = now.get(run.directory.name), before.get(run.directory.name)
        if job is None or earlier is None or job.state == earlier.state:
            continue
        if job.waits and earlier.runs:
            log.info("%s: put back into the queue: %s", run.label, job)
        elif job.is_over and job.state not in ("COMPLETED", "FAILED"):
            log.warning("%s: %s", run.label, job)


def _tell_what_stays(base: Path, runs: Sequence[PlannedRun]) -> None:
    """Log which jobs stay in the queue when the command that waits for them ends."""
    jobs = noted(base)
    names = [run.directory.name for run in runs if not run.is_done()]
    active = sorted(jobs[name].number for name in names if name in jobs and not jobs[name].is_over)
    if active:
        shown = ", ".join(active[:5]) + (", ..." if len(active) > 5 else "")
        log.warning(
            "still in the queue: %d of these runs (%s); the same command waits for them again, and "
            "fer sweep cancel %s cancels them",
            len(active),
            shown,
            base,
        )

"""What SLURM tells of jobs: squeue of those in the queue and those that have just ended, sacct of earlier ones."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Sequence
from typing import NamedTuple

WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"}
ENDED = {
    "BOOT_FAIL": "its node failed",
    "CANCELLED": "it was cancelled",
    "COMPLETED": "it has ended",
    "DEADLINE": "it reached its deadline",
    "FAILED": "it ended with an error",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it ran out of memory",
    "PREEMPTED": "it was preempted",
    "REVOKED": "it was revoked",
    "TIMEOUT": "it reached its time limit",
}
"""Final states of a job, in words."""

UNKNOWN = "it is not in the queue any more; perhaps it was cancelled while it waited"
"""Of a job that SLURM has forgotten: at once if it had not begun, else some minutes after its end."""

_SECONDS = 60


class Job(NamedTuple):
    """Job of SLURM.

    Attributes:
        number: its number; of a task of an array with the task's, such as 12_3.
        state: its state in SLURM's words, such as PENDING; empty if SLURM does not know the job any more.
        reason: why it waits or has ended, in SLURM's words, such as Priority.
    """

    number: str
    state: str = ""
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Return whether the job is in the queue and does not run."""
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        """Return whether the job runs, or is about to begin or end."""
        return self.state in RUNNING

    @property
    def is_over(self) -> bool:
        """Return whether nothing will become of the job any more."""
        return not (self.waits or self.runs)

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason not in ("", "None") else ""
        if self.is_over:
            return f"job {self.number}: {ENDED.get(self.state, UNKNOWN)}"
        return f"job {self.number}{reason if self.waits else ''}"


class NoAnswerError(Exception):
    """SLURM does not answer at the moment, or its commands are not on this machine."""


def jobs(numbers: Collection[str]) -> dict[str, Job]:
    """Return what SLURM tells of jobs of this user; one that it does not know has no state.

    Raises:
        NoAnswerError: squeue does not answer.
    """
    lines = _output("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r").splitlines()
    known = {job.number: job for job in (Job(*line.strip().split("|", 2)) for line in lines if line.strip())}
    missing = [number for number in numbers if number not in known]
    if missing:
        known.update(_of_accounting(missing))
    return {number: known.get(number, Job(number)) for number in numbers}


def cancel(numbers: Collection[str]) -> None:
    """Cancel jobs.

    Raises:
        NoAnswerError: scancel does not answer.
    """
    _output("scancel", *numbers)


def _of_accounting(numbers: Sequence[str]) -> dict[str, Job]:
    """Return jobs as sacct tells them; an empty dictionary where there is no accounting."""
    words = ["--allocations", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={','.join(numbers)}"]
    try:
        lines = _output("sacct", *words).splitlines()
    except NoAnswerError:
        return {}
    pairs = [line.split("|") for line in lines if line.count("|") == 1]
    return {number: Job(number, state.split()[0]) for number, state in pairs if state.split()}  # CANCELLED by 1000


def _output(*command: str) -> str:
    """Return what a command prints.

    Raises:
        NoAnswerError: it is not there, fails, or does not answer within a minute.
    """
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError as error:
        raise NoAnswerError(f"{command[0]}: not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"{command[0]}: no answer in {_SECONDS} seconds") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise NoAnswerError(said if said.startswith(command[0]) else f"{command[0]}: {said}") from error
    return done.stdout

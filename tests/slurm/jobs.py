"""Commands, the queue and the results of sweeps on SLURM, for its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes import HANGING
from runs import SMALL, fer, scores, weights

from fer_lightning.evaluation import results

SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10"]
SHORT = [*SMALL, "stage=fine_tuning", "stage.epochs=3", "optimizer.lr=0.01"]


class Command:
    """``fer`` in a process of its own, as somebody has it run on a login node."""

    def __init__(self, words: Sequence[str], folder: Path, **variables: str) -> None:
        self.log = folder / f"command {len([*folder.glob('command *')])}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fer_lightning", *words],
                env={**os.environ, **variables},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return what it said so far."""
        return self.log.read_text()

    def code(self) -> int:
        """Wait until it ends; return its exit code."""
        return self.process.wait(HANGING)


def queue() -> dict[str, str]:
    """Return the state of each job in the queue, by its number."""
    told = subprocess.run(
        ["squeue", "--array", "--noheader", "--format=%i %T"], check=True, capture_output=True, text=True
    )
    return dict(line.split() for line in told.stdout.splitlines())


def states() -> set[str]:
    """Return the states of the jobs in the queue."""
    return set(queue().values())


def state_of(number: str) -> str:
    """Return how a job ended."""
    told = subprocess.run(["scontrol", "show", "job", number], check=True, capture_output=True, text=True).stdout
    return re.findall(r"JobState=(\w+)", told)[0]


def digits(folder: Path) -> dict[str, Any]:
    """Return all numbers of a sweep that training decides, by run."""
    runs = [path.parent for path in folder.glob(f"*/{results.RESULT}")]
    sums = {run.name: {name: value.sum().item() for name, value in weights(run).items()} for run in runs}
    return {run.name: (scores(run), sums[run.name]) for run in runs}


def status(folder: Path) -> str:
    """Return what ``fer sweep status`` prints."""
    return fer("sweep", "status", str(folder)).out

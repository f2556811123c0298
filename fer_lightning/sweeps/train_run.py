"""A run of a sweep in a child process, as every launcher calls it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fer_lightning.core.errors import Busy
from fer_lightning.core.processes import crash
from fer_lightning.evaluation import results
from fer_lightning.run import claim, launch
from fer_lightning.sweeps import gpu_leases
from fer_lightning.sweeps.planned_run import PlannedRun


def train_run(run: PlannedRun, options: Sequence[str]) -> int:
    """Train a run in a child process; return the child's exit code.

    Args:
        run: the run; a crash of it is noted in its folder.
        options: options of the child's command line.
    """
    several_ranks = int(os.environ.get("SLURM_NTASKS", "1")) > 1  # one of which may hold the claim, or abort
    if not several_ranks and claim.is_claimed(run.directory):
        return Busy.code
    run.directory.mkdir(parents=True, exist_ok=True)
    trial = ["--trial"] if run.trial else []
    prepared = ["--prepared", *run.prepared] if run.prepared else []
    words = ["--directory", str(run.directory.resolve()), *trial, *prepared, *options, *run.words]
    with gpu_leases.leased(run.gpus) as environment:
        if environment:
            with (run.directory / results.LOG).open("a", encoding="utf-8") as log_file:
                log_file.write(f"on GPU {environment[gpu_leases.VISIBLE]}\n")
        code = launch.wait(lambda: launch.fork(words, run.directory / results.LOG, **environment))
    if (name := crash(code)) and not run.is_done() and not (several_ranks and name == "SIGABRT"):
        claim.note_failure(run.directory, f"ended by {name}, see {results.LOG}")
    return code

"""Ranks of a run: processes that train together, started here, by torchrun, or by SLURM's srun."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from operator import itemgetter
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]

from fer_lightning.core.errors import RunFailed, Stopped, UserError, in_words
from fer_lightning.core.processes import ASKING_TO_END, GRACE, crash, end_with_parent, signal_name
from fer_lightning.training.distributed import RENDEZVOUS

INTERRUPTED = tuple(128 + number for number in ASKING_TO_END)
"""Exit codes of a process that was asked to end."""
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def adopt_slurm() -> None:
    """Copy the variables that srun has set for this rank to the names that torchrun uses.

    Raises:
        UserError: srun did not start this process, or with another number of tasks per node than it was asked for.
    """
    if missing := [name for name in _SLURM.values() if name not in os.environ]:
        raise UserError(f"trainer=slurm: {missing[0]} is not set; start it in a SLURM job: srun fer train ...")
    os.environ.update({name: os.environ[slurm_name] for name, slurm_name in _SLURM.items()})
    try:
        slurm = SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:
        raise UserError(f"trainer=slurm: {error}") from error
    os.environ.setdefault("MASTER_ADDR", slurm.main_address)
    os.environ.setdefault("MASTER_PORT", str(slurm.main_port))
    os.environ["GROUP_RANK"] = os.environ.get("SLURM_NODEID", "0")


def start(work: Callable[[], object], number: int) -> None:
    """Run ``work`` in processes of this machine, as its ranks, until all are done or one fails.

    If one fails, the others are ended, even if they wait for it. They also end with this process. (torch's
    start_processes would not do: it reports the first rank that ends, which may only have lost another one.)

    Args:
        work: function that each rank calls.
        number: number of ranks.

    Raises:
        RunFailed: a rank failed or crashed; the message is that of the first one.
        Stopped: a rank was killed or asked to end.
        UserError: a rank raised it.
    """
    context: Any = get_context("fork" if sys.platform == "linux" else "spawn")
    with tempfile.TemporaryDirectory(prefix="fer-ranks-") as folder:
        parent = os.getpid()
        ranks = [
            context.Process(target=_run_rank, args=(work, rank, number, parent, folder), name=f"rank {rank}")
            for rank in range(number)
        ]
        try:
            for rank in ranks:
                rank.start()
            codes = _wait(ranks)
        finally:
            _end(ranks)
        _raise_failure(codes, Path(folder))


def _run_rank(work: Callable[[], object], rank: int, number: int, parent: int, folder: str) -> None:
    """Call ``work`` as one of the ranks, in a process of its own, and leave its error in ``folder``."""
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in world.items()})
    os.environ[RENDEZVOUS] = f"file://{folder}/meeting"
    vars(rank_zero_only)["rank"] = rank  # Lightning has read it when it was imported, before the fork
    end_with_parent(parent)
    try:
        work()
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        failure = error if isinstance(error, UserError) else RunFailed(in_words(error))
        Path(folder, f"failure-{rank}").write_bytes(pickle.dumps((time.time(), failure)))
        sys.exit(failure.code)


def _wait(ranks: Sequence[BaseProcess]) -> list[int | None]:
    """Wait until all ranks have ended, or GRACE seconds after a failure; return exit codes, None if running."""
    deadline = float("inf")
    while True:
        codes = [rank.exitcode for rank in ranks]
        if None not in codes or time.monotonic() > deadline:
            return codes
        if any(codes):
            deadline = min(deadline, time.monotonic() + GRACE)
        connection.wait([rank.sentinel for rank in ranks if rank.exitcode is None], timeout=1)


def _end(ranks: Sequence[BaseProcess]) -> None:
    """Terminate the ranks that are running, and kill those that are stopped or wait inside a library."""
    running = [rank for rank in ranks if rank.is_alive()]
    for rank in running:
        rank.terminate()
    deadline = time.monotonic() + GRACE
    for rank in running:
        rank.join(max(0.0, deadline - time.monotonic()))
        rank.kill()
        rank.join()


def _raise_failure(codes: Sequence[int | None], folder: Path) -> None:
    """Raise the failure of the ranks: the first one, unless it is the consequence of another one.

    A rank that loses another one raises Stopped or aborts. So a crash comes after a rank that was killed and after
    any other error, and an abort after any other crash.
    """
    for rank, code in enumerate(codes):
        if code is not None and (code in INTERRUPTED or (code < 0 and not crash(code))):
            raise Stopped(f"rank {rank} was ended by {signal_name(code)}")
    failures = sorted((pickle.loads(path.read_bytes()) for path in folder.glob("failure-*")), key=itemgetter(0))
    lost = [error for _, error in failures if type(error) is Stopped]
    causes = [error for _, error in failures if type(error) is not Stopped]
    if causes:
        raise causes[0]
    if crashes := [(name == "SIGABRT", rank, name) for rank, code in enumerate(codes) if (name := crash(code))]:
        _, rank, name = min(crashes)
        raise RunFailed(f"rank {rank} was ended by {name}")
    if lost:
        raise lost[0]
    if any(codes):
        raise RunFailed(f"a rank ended with exit code {next(filter(None, codes))}")

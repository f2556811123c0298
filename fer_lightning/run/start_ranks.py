"""The ranks of a run: processes that train together, started here, by torchrun, or by SLURM's srun."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    SLURMEnvironment,
)
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]

from fer_lightning.core.errors import Busy, RunFailed, Stopped, UserError, in_words
from fer_lightning.core.processes import GRACE, end_with_parent
from fer_lightning.training.distributed import MEETING

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a process that was asked to end."""
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def adopt_slurm() -> None:
    """Be the rank that srun made this process: SLURM's variables under the names that torchrun uses.

    Raises:
        UserError: srun did not start it, or not with so many tasks a node.
    """
    if lacking := [name for name in _SLURM.values() if name not in os.environ]:
        raise UserError(f"trainer=slurm: {lacking[0]} is not set; start it in a SLURM job: srun fer train ...")
    os.environ.update({name: os.environ[its] for name, its in _SLURM.items()})
    try:
        slurm = SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:
        raise UserError(f"trainer=slurm: {error}") from error
    os.environ.setdefault("MASTER_ADDR", slurm.main_address)
    os.environ.setdefault("MASTER_PORT", str(slurm.main_port))
    os.environ["GROUP_RANK"] = os.environ.get("SLURM_NODEID", "0")


def start(work: Callable[[], object], number: int) -> None:
    """Run ``work`` in so many processes of this machine, as its ranks, until all are done or one fails.

    Where one fails the others are ended, also those that wait for it in vain. When this process ends, they do.

    Raises:
        RunFailed: one failed; with what the first that did has to say.
        Stopped: one was killed or asked to end.
        UserError: what a rank raised, first of all.
    """
    context: Any = get_context("fork" if sys.platform == "linux" else "spawn")
    with tempfile.TemporaryDirectory(prefix="fer-ranks-") as folder:
        mine = os.getpid()
        ranks = [
            context.Process(target=_be, args=(work, rank, number, mine, folder), name=f"rank {rank}")
            for rank in range(number)
        ]
        try:
            for rank in ranks:
                rank.start()
            end_with_parent()
            codes = _until_all_or_one_failed(ranks)
        finally:
            _end(ranks)
        _judge(codes, Path(folder))


def _be(work: Callable[[], object], rank: int, number: int, parent: int, folder: str) -> None:
    """Be one rank."""
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in world.items()})
    os.environ[MEETING] = f"file://{folder}/meeting"
    vars(rank_zero_only)["rank"] = rank  # Lightning looked it up when it was imported, before the fork
    end_with_parent(parent)
    code, told = 0, ""
    try:
        work()
    except UserError as error:
        code, told = error.code, str(error)
    except Exception as error:
        traceback.print_exc()
        code, told = 1, in_words(error)
    if told:
        Path(folder, f"failure-{rank}").write_text(json.dumps([time.time(), code, told]))
    sys.exit(code)


def _until_all_or_one_failed(ranks: Sequence[BaseProcess]) -> list[int | None]:
    """Exit codes when all have ended or, after a failure, when the others had their time; None: is still there."""
    deadline = float("inf")
    while True:
        codes = [rank.exitcode for rank in ranks]
        if None not in codes or time.monotonic() > deadline:
            return codes
        if any(codes):
            deadline = min(deadline, time.monotonic() + GRACE)
        connection.wait([rank.sentinel for rank in ranks if rank.exitcode is None], timeout=1)


def _end(ranks: Sequence[BaseProcess]) -> None:
    """Ask those that are still there to end, and insist: one may be stopped, or wait inside a library."""
    there = [rank for rank in ranks if rank.is_alive()]
    for rank in there:
        rank.terminate()
    deadline = time.monotonic() + GRACE
    for rank in there:
        rank.join(max(0.0, deadline - time.monotonic()))
        rank.kill()
        rank.join()


def _judge(codes: Sequence[int | None], folder: Path) -> None:
    """Raise what the ranks' ends mean: the first failure counts, and one that is not only another's echo."""
    for rank, code in enumerate(codes):
        if code is not None and (code < 0 or code in INTERRUPTED):
            how = signal.Signals(-code if code < 0 else code - 128).name
            raise Stopped(f"rank {rank} was ended by {how}")
    failures = [json.loads(path.read_text()) for path in folder.glob("failure-*")]
    for _, code, told in sorted(failures, key=lambda failure: (failure[1] == Stopped.code, failure[0])):
        kinds = {kind.code: kind for kind in (RunFailed, Stopped, Busy, UserError)}
        raise kinds.get(code, RunFailed)(told)
    if any(codes):
        raise RunFailed(f"a rank ended with exit code {next(filter(None, codes))}")

"""The ranks of a cell: processes that train together, started here, by torchrun, or by SLURM's srun."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import distributed

from fer_lightning.errors import Busy, CellFailed, Stopped, UserError, in_words
from fer_lightning.processes import GRACE, end_with_parent

T = TypeVar("T")

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a process that was asked to end."""

_MEETING = "FER_MEETING"  # the file through which ranks that were started here find each other
_LOST = ("closed by peer", "reset by peer", "broken pipe", "remote process exited", "connection refused")
_SILENT = ("timed out", "timeout")
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def is_first() -> bool:
    """Whether this process is the one that writes files: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def are_there() -> bool:
    """Whether this process is one of several ranks, or the only one that torchrun or SLURM started."""
    return "RANK" in os.environ


def environment() -> ClusterEnvironment:
    """For a Trainer: said, so that a lone process in a SLURM job is not taken for one of several ranks."""
    made: ClusterEnvironment = TorchElasticEnvironment() if are_there() else LightningEnvironment()
    return made


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
        CellFailed: one failed; with what the first that did has to say.
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
    os.environ[_MEETING] = f"file://{folder}/meeting"
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
        kinds = {kind.code: kind for kind in (CellFailed, Stopped, Busy, UserError)}
        raise kinds.get(code, CellFailed)(told)
    if any(codes):
        raise CellFailed(f"a rank ended with exit code {next(filter(None, codes))}")


def take_gpu() -> None:
    """Let this rank's work be done on its own GPU of the machine."""
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def together(device: str, timeout: float) -> Iterator[None]:
    """Join the process group of the ranks; a lone process has none.

    Lightning finds the group and uses it. Rank 0 can so decide for all before there is a Trainer, see ``agree``.

    Args:
        device: ``cpu`` or ``cuda``.
        timeout: seconds after which a rank that waits for another gives up.

    Raises:
        CellFailed: another rank gave no answer in that time.
        Stopped: another rank is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            init_method=os.environ.get(_MEETING, "env://"),
            timeout=timedelta(seconds=timeout),
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
        )
        yield
    except RuntimeError as error:
        rank, said = os.environ["RANK"], str(error).lower()
        if any(sign in said for sign in _LOST):
            raise Stopped(f"rank {rank} lost another rank: {in_words(error)}") from error
        if any(sign in said for sign in _SILENT):
            raise CellFailed(
                f"rank {rank} had no answer from the others for trainer.timeout={timeout:g} s: {in_words(error)}"
            ) from error
        raise
    distributed.destroy_process_group()


def agree(value: T) -> T:
    """What rank 0 says, on all ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    said = [value]
    distributed.broadcast_object_list(said, 0)
    return said[0]

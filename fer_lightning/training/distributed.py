"""What a rank asks and says among the ranks that train together; a lone process is one of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    ClusterEnvironment,
    LightningEnvironment,
    TorchElasticEnvironment,
)
from torch import Tensor, distributed

from fer_lightning.core.errors import RunFailed, Stopped, UserError, in_words

T = TypeVar("T")

MEETING = "FERMEETING"  # the file through which ranks that were started here find each other
_LOST = ("closed by peer", "reset by peer", "broken pipe", "remote process exited", "connection refused")
_SILENT = ("timed out", "timeout")


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


def take_gpu() -> None:
    """Let this rank's work be done on its own GPU of the machine.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("trainer: there is no CUDA device here; choose trainer=cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def together(device: str, timeout: float) -> Iterator[None]:
    """Join the process group of the ranks; a lone process has none.

    Lightning finds the group and uses it. Rank 0 can so decide for all before there is a Trainer, see ``agree``.

    Args:
        device: ``cpu`` or ``cuda``.
        timeout: seconds after which a rank that waits for another gives up.

    Raises:
        RunFailed: another rank gave no answer in that time.
        Stopped: another rank is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            init_method=os.environ.get(MEETING, "env://"),
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
            raise RunFailed(
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


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place, without waiting for a GPU."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values

"""Communication between the ranks that train together; a single process is the only rank."""

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
from torch import Tensor, distributed, nn

from fer_lightning.core.errors import RunFailed, Stopped, UserError, in_words

T = TypeVar("T")

RENDEZVOUS = "FERMEETING"
"""Environment variable with the file through which ranks that ``fer`` starts find each other."""

# Errors of the store have types of their own. Those of gloo's collectives are plain RuntimeErrors like most
# errors of torch, and NCCL's DistBackendError has many causes: only the messages tell them apart.
_LOST = ("by peer", "broken pipe", "remote process exit", "connection refused")
_TIMEOUT = ("timed out", "timeout")


def is_first() -> bool:
    """Return whether this process is rank 0 or the only one, and therefore writes the files."""
    return os.environ.get("RANK", "0") == "0"


def is_rank() -> bool:
    """Return whether this process was started as a rank, by ``fer``, torchrun or SLURM."""
    return "RANK" in os.environ


def cluster_environment() -> ClusterEnvironment:
    """Build the Trainer's environment; without it, Lightning takes a single process in a SLURM job for a rank."""
    environment: ClusterEnvironment = TorchElasticEnvironment() if is_rank() else LightningEnvironment()
    return environment


def select_gpu() -> None:
    """Make the GPU of this rank the current CUDA device.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("trainer: this machine has no CUDA device; choose trainer=cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def process_group(device: str, timeout: float) -> Iterator[None]:
    """Join the process group of the ranks; a single process needs none.

    Lightning uses this group. Rank 0 can so decide for all ranks before there is a Trainer, see ``agree``.

    Args:
        device: ``cpu`` or ``cuda``.
        timeout: seconds that a rank waits for another one.

    Raises:
        RunFailed: another rank did not answer in that time.
        Stopped: the connection to another rank was lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            init_method=os.environ.get(RENDEZVOUS, "env://"),
            timeout=timedelta(seconds=timeout),
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
        )
        yield
    except RuntimeError as error:
        rank, message = os.environ["RANK"], str(error).lower()
        timed_out = isinstance(error, distributed.DistStoreError) or any(words in message for words in _TIMEOUT)
        lost = isinstance(error, distributed.DistNetworkError) and not timed_out
        if lost or any(words in message for words in _LOST):
            raise Stopped(f"rank {rank} lost another rank: {in_words(error)}") from error
        if timed_out:
            raise RunFailed(
                f"rank {rank} had no answer from the others for trainer.timeout={timeout:g} s: {in_words(error)}"
            ) from error
        raise
    distributed.destroy_process_group()


def share_of_rank() -> slice:
    """Return every how many-th item this rank takes of work that all ranks divide among them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return slice(None)
    return slice(distributed.get_rank(), None, distributed.get_world_size())


def agree(value: T) -> T:
    """Return the value of rank 0 on all ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values = [value]
    distributed.broadcast_object_list(values, 0)
    return values[0]


def broadcast_buffers(module: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, such as the running statistics of BatchNorm."""
    if distributed.is_available() and distributed.is_initialized():
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place, without waiting for a GPU."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values

"""Communication between the ranks that train together; a single process is the only rank."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    ClusterEnvironment,
    LightningEnvironment,
    TorchElasticEnvironment,
)
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from fer_lightning import __version__
from fer_lightning.core.errors import RunFailed, Stopped, UserError, in_words

T = TypeVar("T")

RENDEZVOUS = "FERMEETING"
"""Environment variable with the file through which ranks that ``fer`` starts find each other."""

MEETING = 60.0
"""Seconds in which all ranks have to find each other."""

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
        UserError: see ``_meet``.
        RunFailed: another rank did not answer in that time.
        Stopped: the connection to another rank was lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    store, rank, world = _meet()
    store.set_timeout(timedelta(seconds=timeout))
    try:
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=timedelta(seconds=timeout)
        )
        yield
    except RuntimeError as error:
        timed_out = _is_timeout(error)
        lost = isinstance(error, distributed.DistNetworkError) and not timed_out
        if lost or any(words in str(error).lower() for words in _LOST):
            raise Stopped(f"rank {rank} lost another rank: {in_words(error)}") from error
        if timed_out:
            raise RunFailed(
                f"rank {rank} had no answer from the others for trainer.timeout={timeout:g} s: {in_words(error)}"
            ) from error
        raise
    distributed.destroy_process_group()


def on_every_rank(work: Callable[[], T]) -> T:
    """Do what each rank has to do by itself, such as opening files of its node; return the result.

    Raises:
        UserError: ``work`` raised it here or on another rank; the message names the rank and its node, unless
            all raised the same.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return work()
    problem: UserError | None = None
    try:
        result = work()
    except UserError as error:
        problem = error
    told: Any = problem and (f"rank {distributed.get_rank()} on {platform.node()}", type(problem), str(problem))
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, told)
    if problems := [one for one in gathered if one is not None]:
        where, kind, message = problems[0]
        alike = [other for *_, other in problems].count(message) == len(gathered)
        raise kind(message if alike else f"{where}: {message}") from problem
    return result


def _is_timeout(error: RuntimeError) -> bool:
    """Return whether an error says that another rank did not answer in time."""
    message = str(error).lower()
    return isinstance(error, distributed.DistStoreError) or any(words in message for words in _TIMEOUT)


def _meet() -> tuple[Any, int, int]:
    """Find the other ranks, and see that all run the same version of this package.

    Returns:
        The store that the ranks share, the number of this one, and that of all.

    Raises:
        UserError: the node of rank 0 is not known here, its port is taken, or a node has another version.
        RunFailed: a rank was not there within ``MEETING`` seconds.
        Stopped: the connection to another rank was lost.
    """
    rank, world, node = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), platform.node()
    init_method, seconds = os.environ.get(RENDEZVOUS, "env://"), timedelta(seconds=MEETING)
    where = "here"
    if init_method == "env://":
        address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
        where = f"{address}:{port}"
        try:
            socket.getaddrinfo(address, int(port))
        except OSError as error:
            raise UserError(
                f"rank {rank} on {node}: the name of rank 0's node, MASTER_ADDR={address}, does not resolve "
                f"({error.strerror}); set MASTER_ADDR to an address that all nodes reach"
            ) from error
    try:
        store, rank, world = next(rendezvous(init_method, rank, world, timeout=seconds))
        store.set(f"version {rank}", f"{__version__} {node}")
        versions = [store.get(f"version {number}").decode().split(maxsplit=1) for number in range(world)]
        store.set(f"read by {rank}", "")
    except RuntimeError as error:
        if "in use" in str(error).lower():
            raise UserError(f"rank 0 on {node}: port {where} is taken; set MASTER_PORT to another one") from error
        if _is_timeout(error):
            raise RunFailed(
                f"rank {rank} on {node} did not find the other {world - 1} ranks at {where} within {MEETING:g} s"
            ) from error
        raise Stopped(f"rank {rank} on {node} lost the others at {where}: {in_words(error)}") from error
    if others := [f"{other} on {name}" for other, name in versions if other != versions[0][0]]:
        if rank == 0:  # it serves the store: the others could not read what is wrong once it is gone
            with suppress(RuntimeError):  # a rank that has ended cannot read; told below all the same
                store.wait([f"read by {number}" for number in range(world)])
        raise UserError(
            f"fer_lightning is {versions[0][0]} on {versions[0][1]}, and {others[0]}: install one version"
        )
    return store, rank, world


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

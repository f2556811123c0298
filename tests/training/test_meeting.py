"""Ranks that find each other over a network, and what is said when they do not."""

from __future__ import annotations

import multiprocessing
import platform
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from processes import HANGING
from torch.distributed.rendezvous import rendezvous

from fer_lightning import __version__
from fer_lightning.core.errors import RunFailed, UserError
from fer_lightning.training import distributed
from fer_lightning.training.distributed import agree, on_every_rank, process_group


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def environment(patch: pytest.MonkeyPatch, rank: int, port: int, address: str = "127.0.0.1") -> None:
    """Set what srun or torchrun tell a rank of two."""
    patch.delenv(distributed.RENDEZVOUS, raising=False)
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": address, "MASTER_PORT": port}.items():
        patch.setenv(name, str(value))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as listening:
        listening.bind(("", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


class SlowStore:
    """The store that the ranks share, in which one of them is slow to read."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def get(self, key: str) -> Any:
        time.sleep(0.5)
        return self.store.get(key)


def _slow_rendezvous(*args: Any, **kwargs: Any) -> Iterator[Any]:
    for store, rank, world in rendezvous(*args, **kwargs):
        yield SlowStore(store), rank, world


def _rank(
    rank: int, port: int, version: str, answers: Any, work: Callable[[int], object], slow: int | None = None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if rank == slow:
            patch.setattr(distributed, "rendezvous", _slow_rendezvous)
        environment(patch, rank, port)
        patch.setattr(distributed, "__version__", version)
        try:
            with process_group("cpu", HANGING):
                done = on_every_rank(lambda: work(rank))
                answers.put((rank, f"{done}, rank 0 says {agree(rank)}"))
        except UserError as error:
            answers.put((rank, str(error)))


def meet(*versions: str, work: Callable[[int], object] = str, slow: int | None = None) -> list[str]:
    """Let ranks of these versions meet, one of them slowly, and each do some work; return what each comes to."""
    context, port = multiprocessing.get_context("fork"), free_port()
    answers: Any = context.Queue()
    ranks = [
        context.Process(target=_rank, args=(rank, port, it, answers, work, slow))
        for rank, it in enumerate(versions)
    ]
    for rank in ranks:
        rank.start()
    found = dict(answers.get(timeout=HANGING) for _ in ranks)
    for rank in ranks:
        rank.join()
    return [found[number] for number in sorted(found)]


def test_ranks_of_one_version_meet() -> None:
    assert meet(__version__, __version__) == ["0, rank 0 says 0", "1, rank 0 says 0"]


def _lacks_data(rank: int, nodes: set[int]) -> None:
    if rank in nodes:
        raise UserError("data.root=/data: there is no such folder")


def test_a_node_without_the_data_set_is_told_on_every_rank() -> None:
    one, other = meet(__version__, __version__, work=partial(_lacks_data, nodes={1}))
    assert one == other == f"rank 1 on {platform.node()}: data.root=/data: there is no such folder"
    assert meet(__version__, __version__, work=partial(_lacks_data, nodes={0, 1})) == [one.partition(": ")[2]] * 2


@pytest.mark.parametrize("slow", [0, 1])
def test_another_version_is_told_on_every_rank(slow: int) -> None:
    """Rank 0 serves what the others read; it must not be gone before they have read it."""
    one, other = meet("1.0", "2.0", slow=slow)
    assert one == other
    assert one.startswith("fer_lightning is 1.0 on ")
    assert ", and 2.0 on " in one


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, 1, free_port(), "no-such-node.invalid")
    with (
        pytest.raises(UserError, match=r"^rank 1 on .*MASTER_ADDR=no-such-node.invalid, does not resolve"),
        process_group("cpu", HANGING),
    ):
        pass


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    environment(monkeypatch, 0, taken)
    with (
        pytest.raises(UserError, match=rf"port 127.0.0.1:{taken} is taken; set MASTER_PORT"),
        process_group("cpu", HANGING),
    ):
        pass


def test_a_rank_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "MEETING", 1.0)
    environment(monkeypatch, 0, port := free_port())
    with (
        pytest.raises(RunFailed, match=rf"did not find the other 1 ranks at 127.0.0.1:{port} within 1 s"),
        process_group("cpu", HANGING),
    ):
        pass

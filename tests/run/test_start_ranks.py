"""Ranks as processes: what the end of each means for the run."""

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from processes import tree
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from fer_lightning.core.errors import NoSpace, RunFailed, Stopped, UserError
from fer_lightning.run import start_ranks
from fer_lightning.training import distributed

Work = Callable[[int], None]


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Whatever happens, no rank outlives it."""
    before = set(tree(os.getpid()))
    yield
    assert not set(tree(os.getpid())) - before


@pytest.fixture(autouse=True)
def none_waited_to_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A rank that waits in vain is ended, and does not wake."""
    monkeypatch.setattr(sys.modules[__name__], "AWAKE", tmp_path / "awake")
    yield
    assert not AWAKE.exists()


AWAKE = Path()


def start(work: Work, number: int = 2, grace: float = 60) -> None:
    """Start ranks that have so many seconds to end by themselves: few only where none would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start_ranks, "GRACE", grace)
        start_ranks.start(lambda: work(int(os.environ["RANK"])), number)


def fails(error: Exception, on: int, others: Work, rank: int) -> None:
    if rank == on:
        raise error
    others(rank)


def nothing(rank: int) -> None:
    pass


def wait(_: int) -> None:
    time.sleep(60)
    AWAKE.touch()


def wait_and_ignore(rank: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait(rank)


def echo(rank: int) -> None:
    raise Stopped(f"rank {rank} lost another rank")


GRACES = {nothing: 60.0, echo: 60.0, wait: 0.2, wait_and_ignore: 0.2}


def test_every_rank_knows_who_it_is_and_they_meet(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        assert distributed.is_first() == (rank == 0)
        assert distributed.is_rank()
        assert rank_zero_only.rank == rank
        with distributed.process_group("cpu", 30):
            (tmp_path / str(rank)).write_text(distributed.agree(f"said by {rank}"))

    assert distributed.is_first()
    assert not distributed.is_rank()
    assert distributed.agree("alone") == "alone"
    start(work, 3)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("012", "said by 0")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (UserError("loss.weight: no"), UserError, "loss.weight: no"),
        (RunFailed("nan in step 3"), RunFailed, "nan in step 3"),
        (ArithmeticError("so it\nis"), RunFailed, "ArithmeticError: so it is"),
    ],
)
@pytest.mark.parametrize(("others", "on"), [(nothing, 1), (echo, 0)])
def test_what_the_rank_that_failed_says_is_what_the_run_says(
    others: Work, on: int, error: Exception, kind: type[UserError], said: str
) -> None:
    with pytest.raises(UserError) as raised:
        start(partial(fails, error, on, others))
    assert type(raised.value) is kind
    assert str(raised.value) == said


@pytest.mark.parametrize("others", GRACES)
@pytest.mark.parametrize("on", [0, 1])
def test_where_one_rank_fails_the_others_are_ended(others: Work, on: int) -> None:
    with pytest.raises(RunFailed, match="nan in step 3"):
        start(partial(fails, RunFailed("nan in step 3"), on, others), grace=GRACES[others])


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("others", [nothing, wait, echo])
def test_a_rank_that_was_ended_has_not_failed(sign: signal.Signals, others: Work) -> None:
    def work(rank: int) -> None:
        if rank == 1:
            for own in (signal.SIGTERM, signal.SIGINT):
                signal.signal(own, signal.SIG_DFL)
            os.kill(os.getpid(), sign)
        others(rank)

    with pytest.raises(Stopped, match=f"rank 1 was ended by {sign.name}"):
        start(work, grace=GRACES[others])


CRASHES = [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE]


@pytest.mark.parametrize("sign", CRASHES)
@pytest.mark.parametrize("others", [nothing, wait, echo])
def test_a_rank_that_crashes_has_failed(sign: signal.Signals, others: Work) -> None:
    def work(rank: int) -> None:
        if rank == 1:
            os.kill(os.getpid(), sign)
        others(rank)

    with pytest.raises(RunFailed, match=f"rank 1 was ended by {sign.name}"):
        start(work, grace=GRACES[others])


@pytest.mark.parametrize(
    ("codes", "errors", "raised"),
    [
        ([-signal.SIGABRT, -signal.SIGKILL], [], Stopped("rank 1 was ended by SIGKILL")),
        ([-signal.SIGSEGV, 143], [], Stopped("rank 1 was ended by SIGTERM")),
        ([-signal.SIGABRT, -signal.SIGHUP], [], Stopped("rank 1 was ended by SIGHUP")),
        ([-signal.SIGABRT, -signal.SIGSEGV], [], RunFailed("rank 1 was ended by SIGSEGV")),
        ([-signal.SIGABRT, 1], [RunFailed("nan in step 3")], RunFailed("nan in step 3")),
        ([-signal.SIGABRT, 74], [NoSpace("no space left")], NoSpace("no space left")),
        ([-signal.SIGABRT, 74], [Stopped("lost another rank")], RunFailed("rank 0 was ended by SIGABRT")),
        ([None, -signal.SIGABRT], [], RunFailed("rank 1 was ended by SIGABRT")),
    ],
)
def test_a_crash_that_follows_from_another_end_is_not_the_failure(
    tmp_path: Path, codes: list[int | None], errors: list[UserError], raised: UserError
) -> None:
    for rank, error in enumerate(errors):
        (tmp_path / f"failure-{rank}").write_bytes(pickle.dumps((0.0, error)))
    with pytest.raises(UserError, match=str(raised)) as found:
        start_ranks._raise_failure(codes, tmp_path)
    assert type(found.value) is type(raised)


def test_a_lost_rank_and_a_silent_one_are_told_apart(tmp_path: Path) -> None:
    def lose(rank: int) -> None:
        with distributed.process_group("cpu", 30):
            if rank == 1:
                os._exit(7)
            distributed.agree(0)
            distributed.agree(1)

    with pytest.raises(Stopped, match=r"lost another rank"):
        start(lose)

    def hang(rank: int) -> None:
        with distributed.process_group("cpu", 2):
            if rank == 0:
                wait(rank)
            distributed.agree(0)

    with pytest.raises(RunFailed, match=r"rank 1 had no answer from the others for trainer.timeout=2 s"):
        start(hang, grace=0.2)

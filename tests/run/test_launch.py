"""A child process that is waited for does not outlive who waits, whenever a signal comes."""

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fer_lightning.run import launch


class Child:
    """A child that runs until it is ended; the signal comes while it is started."""

    def __init__(self, number: signal.Signals) -> None:
        self.ended: list[str] = []
        signal.raise_signal(number)
        self.ended.append("started")

    def wait(self, timeout: float | None = None) -> int:
        if "asked" in self.ended:
            return -15
        raise subprocess.TimeoutExpired("child", timeout or 0)

    def terminate(self) -> None:
        self.ended.append("asked")

    def kill(self) -> None:
        self.ended.append("made")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As the command line has them."""

    def end(*_: object) -> None:
        raise SystemExit(143)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_while_a_child_is_started_ends_it(number: signal.Signals, raised: type[BaseException]) -> None:
    children: list[Child] = []

    def start() -> Any:
        children.append(Child(number))
        return children[0]

    handler = signal.getsignal(number)
    with pytest.raises(raised):
        launch.wait(start)
    assert children[0].ended == ["started", "asked"]
    assert signal.getsignal(number) is handler


def test_a_start_that_fails_leaves_the_handlers_as_they_were() -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def start() -> launch.Child:
        raise OSError("no process")

    with pytest.raises(OSError, match="no process"):
        launch.wait(start)
    assert signal.getsignal(signal.SIGTERM) is handler

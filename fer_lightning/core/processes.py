"""Processes that end together with the process that started them."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GRACE = 5.0
"""Seconds between SIGTERM, which asks a process to end, and SIGKILL."""

ENDS_WITH_PARENT = "FER_ENDS_WITH_PARENT"
"""Environment variable of a process that must not outlive the one that started it: the id of that one."""

FROM_CLUSTERS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals that clusters send before a time limit or a preemption."""

ASKING_TO_END = (signal.SIGINT, signal.SIGTERM, *FROM_CLUSTERS)
"""Signals that ask a process to end in order."""

_PR_SET_PDEATHSIG = 1
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")


@contextmanager
def signals_held_back(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Hold back signals that this process handles in Python, so that none interrupts the block.

    Signals interrupt the main thread only; in other threads this does nothing.

    Args:
        numbers: numbers of the signals.

    Yields:
        A function that delivers the signals held back so far and holds back no more. It is also called at the end
        of the block.
    """
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    held: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))

    def deliver() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        while held:
            signal.raise_signal(held.pop(0))

    try:
        yield deliver
    finally:
        deliver()


@contextmanager
def signals_ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore signals during the block, and let processes that it starts ignore them for good."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def crash(code: int | None) -> str | None:
    """Return the name of the signal by which a process ended itself, such as SIGSEGV.

    Args:
        code: exit code of the process; that of a signal is negative.

    Returns:
        None if the process ended in another way, or somebody else ended it, such as the kernel for lack of memory.
    """
    if code is None or code >= 0:
        return None
    name = signal_name(code)
    return name if name in _CRASHES else None


def signal_name(code: int) -> str:
    """Return the name of the signal that an exit code stands for, which is negative or above 128."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number).name if number in {*signal.Signals} else f"signal {number}"


def end_with_parent(parent: int) -> None:
    """Let this process end together with the one that started it, even if that is killed.

    On Linux the kernel then kills this process at once, whatever it does at that moment. (It does so when the
    thread that started this process ends; all that call this are started by threads that wait for them.) Elsewhere
    a thread watches.

    Args:
        parent: id of the process that started this one. If it has ended already, this process ends here.
    """
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return
    _watch(lambda: os.getppid() == parent)


@dataclass(frozen=True)
class ProcessId:
    """Id of a process that no other one shares, on this or any machine.

    Attributes:
        number: id, which the machine may give to another process once this one has ended.
        start: when the process started, in ticks since the machine did; empty where there is no /proc.
        machine: name of the machine, with that of the container.
    """

    number: int
    start: str
    machine: str

    @classmethod
    def of(cls, number: int) -> ProcessId:
        """Return the id of a process of this machine."""
        return cls(number, _start_of(number), _machine())

    @classmethod
    def own(cls) -> ProcessId:
        """Return the id of this process."""
        return cls.of(os.getpid())

    def is_running(self) -> bool:
        """Return whether the process runs, if it is one of this machine."""
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _start_of(self.number) == self.start


@cache  # one thread is enough
def end_with(process: ProcessId) -> None:
    """Let this process end within a second after another one of the same machine, which need not be its parent.

    Nothing ends with a process of another machine.
    """
    if process.machine == _machine():
        _watch(process.is_running)


def _watch(is_needed: Callable[[], bool]) -> None:
    """Kill this process, from a thread, once it is not needed any more."""

    def watch() -> None:
        while is_needed():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with another process").start()


def _start_of(number: int) -> str:
    """Return when a process started; empty if it has ended or there is no /proc."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _machine() -> str:
    try:
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()

"""The processes of this machine: which one has started, and whether they have ended."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

HANGING = 600.0
"""Seconds after which what a test waits for is taken to hang."""


def tree(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have, in the order of their starts."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        own = sorted(children.get(todo.pop(0), []))
        found += own
        todo += own
    return found


def wait_until(condition: Callable[[], bool], what: str, seconds: float = HANGING) -> None:
    """Wait for something that must come, however slow the machine is.

    Raises:
        TimeoutError: it did not; ``seconds`` are a limit against hanging, and nothing that a test is about.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.02)


def until_gone(pids: Iterable[int], seconds: float = HANGING) -> None:
    """Wait until processes have ended."""
    left = set(pids)
    try:
        wait_until(lambda: not any(map(is_there, left)), "the end of processes", seconds)
    except TimeoutError as error:
        alive = {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left if is_there(pid)}
        raise TimeoutError(f"still there: {alive}") from error


def marked(mark: str) -> list[int]:
    """The processes that were started with a text such as NAME=value in their environment, or by such ones."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return [pid for pid in found if is_there(pid)]


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""The processes of this machine: which one has started, and whether they have ended."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


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


def until_gone(pids: Iterable[int], seconds: float = 60) -> None:
    """Wait until processes have ended, and fail where one has not."""
    deadline = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if is_there(pid)}
        time.sleep(0.1)
    assert not left, f"still there: {left}"


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Runs as processes that tests stop in the middle."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

Process = subprocess.Popen[str]


def start(words: list[str], directory: Path) -> Process:
    """``python -m fer_lightning.run`` of a run; what it says is read by ``until``."""
    command = [sys.executable, "-u", "-m", "fer_lightning.run", "--directory", str(directory), *words]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(process: Process, sign: str) -> str:
    """What a process says up to the first line that has a sign in it."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if sign in line:
            return said
    raise AssertionError(f"it ended without saying {sign!r}: {said}")


def rest(process: Process) -> str:
    """What a process says from now on until it ends well."""
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


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

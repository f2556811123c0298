"""Cells as processes that tests stop in the middle."""

import os
import subprocess
import sys
from pathlib import Path

Process = subprocess.Popen[str]


def start(words: list[str], directory: Path) -> Process:
    """``python -m fer_lightning.run`` of a cell; what it says is read by ``until``."""
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

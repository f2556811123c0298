"""The commands of smoke_checks.py, each with a limit of its time, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.config.overrides import quoted


class Skip(Exception):  # noqa: N818  (an outcome)
    """Why a check makes no sense here."""


class Failure(Exception):  # noqa: N818  (an outcome)
    """What went wrong in a check, and what its processes printed."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


def run_folder(folder: Path) -> str:
    """Return the word that says where a run goes."""
    return f"hydra.run.dir={quoted(folder)}"


def fer(words: Sequence[str], until: float) -> str:
    """Run ``fer`` with these words; return what it prints."""
    return python(["-m", "fer_lightning", *words], until)


def python(words: Sequence[str], until: float, folder: Path | None = None, **variables: str) -> str:
    """Run Python with these words; return what it prints.

    Args:
        words: its command line.
        until: time of the monotonic clock at which it is killed, and what it has started ends with it.
        folder: to run it in.
        variables: of its environment.

    Raises:
        Failure: its exit code is not 0.
        subprocess.TimeoutExpired: that time has come.
    """
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=max(0.0, until - time.monotonic()),
        cwd=folder,
        env={**os.environ, **variables},
    )
    if done.returncode:
        lines = [*filter(None, map(str.strip, f"{done.stdout}\n{done.stderr}".splitlines()))]
        told = [line for line in lines if line.startswith(("fer: ", "failed: ", "FAILED "))] or lines
        reason = told[-1].removeprefix("fer: ") if told else "it printed nothing"
        raise Failure(f"exit code {done.returncode}: {reason}", "\n".join(lines[-30:]))
    return done.stdout

"""GPUs of this machine: no two runs of any sweep on it get the same one."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible() -> list[str]:
    """Names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES takes them; none where there is no driver."""
    if (named := os.environ.get(VISIBLE)) is not None:
        return [name for name in named.split(",") if name]
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, _ in enumerate(line for line in told.splitlines() if line.startswith("GPU "))]


@contextmanager
def leased(number: int) -> Iterator[dict[str, str]]:
    """Hold so many GPUs, and wait until they are free; gives the environment that shows a run only these.

    In a SLURM job nothing is held: SLURM has given it its own. Where there are too few, the run will say so.
    """
    names = visible()
    if not number or "SLURM_JOB_ID" in os.environ or len(names) < number:
        yield {}
        return
    locks = _hold(names, number)
    try:
        yield {VISIBLE: ",".join(locks)}
    finally:
        for lock in locks.values():
            lock.release()


def _hold(names: Sequence[str], number: int) -> dict[str, FileLock]:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"fer-lightning-gpus-{user}"
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        held: dict[str, FileLock] = {}
        for name in names:
            lock = FileLock(folder / f"{name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            held[name] = lock
            if len(held) == number:
                return held
        for lock in held.values():  # all or none: two that hold half of what they need would wait for ever
            lock.release()
        if not told:
            log.info("waiting for %d free GPUs of %s", number, ", ".join(names))
        told = True
        time.sleep(1)

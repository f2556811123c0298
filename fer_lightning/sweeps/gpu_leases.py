"""Leases on the GPUs of this machine, so that no two runs of any sweep use the same one."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible() -> list[str]:
    """Return the names of the usable GPUs as CUDA_VISIBLE_DEVICES takes them; none if there is no driver."""
    if (names := os.environ.get(VISIBLE)) is not None:
        return [name for name in names.split(",") if name]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    gpus = [line for line in listing.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(gpus))]


@contextmanager
def leased(number: int) -> Iterator[dict[str, str]]:
    """Hold ``number`` GPUs, after waiting until they are free.

    Nothing is held in a SLURM job, which has GPUs of its own, or if the machine has too few: the run then says so.

    Args:
        number: how many GPUs the run needs.

    Yields:
        The environment variable that shows a run only these GPUs; nothing if none is held.
    """
    names = visible()
    if not number or "SLURM_JOB_ID" in os.environ or len(names) < number:
        yield {}
        return
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"fer-lightning-gpus-{user}"
    folder.mkdir(parents=True, exist_ok=True)
    announced = False
    while True:
        with ExitStack() as locks:  # releases what it holds if that is too little: two waiting runs would deadlock
            held: list[str] = []
            for name in names:
                with suppress(Timeout):
                    locks.enter_context(FileLock(folder / f"{name}.lock", timeout=0))
                    held.append(name)
                if len(held) == number:
                    yield {VISIBLE: ",".join(held)}
                    return
        if not announced:
            log.info("waiting for %d free GPUs of %s", number, ", ".join(names))
        announced = True
        time.sleep(1)

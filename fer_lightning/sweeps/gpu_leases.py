"""Leases on the GPUs of this machine, so that no two runs of any sweep of any user have the same one."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from fer_lightning.core.files import home, lock_of

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"

FOLDER = Path("/tmp" if sys.platform == "linux" else tempfile.gettempdir(), "fer-lightning-gpus")
"""Folder of the locks; TMPDIR is not asked, since a user's own would hold locks that nobody else sees."""


def visible() -> list[str]:
    """Return the usable GPUs, as CUDA_VISIBLE_DEVICES takes them; none if there is no driver.

    They are named by UUID, so that a GPU has one name for all users. Numbers are taken for those of nvidia-smi.
    Where a GPU is split into MIG devices these are used, and of a GPU that is named as a whole the first one, as
    CUDA does. Names that nvidia-smi does not list end the list, again as in CUDA; without nvidia-smi all are kept.
    """
    gpus = _gpus()
    names = os.environ.get(VISIBLE)
    if names is None:
        return [device for devices in gpus for device in devices[1:] or devices]
    found = []
    for name in filter(None, (name.strip() for name in names.split(","))):
        device = _device(name, gpus) if gpus else name
        if device is None:
            break
        found.append(device)
    return [*dict.fromkeys(found)]


def _gpus() -> list[list[str]]:
    """Return the UUIDs of each GPU and of its MIG devices, as nvidia-smi lists them."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    gpus: list[list[str]] = []
    for line in listing.splitlines():
        if (uuid := re.search(r"\(UUID: (\S+)\)", line)) is None:
            continue
        if line.startswith("GPU "):
            gpus.append([uuid[1]])
        elif gpus:
            gpus[-1].append(uuid[1])
    return gpus


def _device(name: str, gpus: list[list[str]]) -> str | None:
    """Return the UUID of the device that CUDA uses for a name: a number, or a UUID or the beginning of one."""
    if name.isdecimal():
        devices = gpus[int(name)] if int(name) < len(gpus) else []
        return next(iter(devices[1:] or devices), None)
    if name.startswith("MIG-GPU-"):  # a form of older drivers, which lists no UUID of MIG devices
        return name
    for whole, *parts in gpus:
        for uuid in (whole, *parts):
            if uuid.startswith(name):
                return parts[0] if parts and uuid == whole else uuid
    return None


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
    announced = False
    while True:
        with ExitStack() as locks:  # releases what it holds if that is too little: two waiting runs would deadlock
            held: list[str] = []
            for name in names:
                with suppress(Timeout):
                    locks.enter_context(_lock(name))
                    held.append(name)
                if len(held) == number:
                    yield {VISIBLE: ",".join(held)}
                    return
        if not announced:
            log.info("waiting for %d free GPUs of %s", number, ", ".join(names))
        announced = True
        time.sleep(1)


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Hold the lock of a GPU, or one among this user's runs if the file of all users cannot be used.

    Raises:
        Timeout: another run holds it.
    """
    file = re.sub(r"[^A-Za-z0-9.-]", "_", name)
    path = FOLDER / f"{file}.lock"
    lock = FileLock(path, timeout=0, mode=0o666)
    try:
        _share(FOLDER)
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        _warn(f"{path}: {error.strerror or error}")
        lock = lock_of(home() / "gpus" / file)
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


def _share(folder: Path) -> None:
    """Make the folder of the locks, in which all users may create files, whatever the umask is.

    Raises:
        OSError: it cannot be made, or is no folder but, for example, a link that somebody has put there.
    """
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)
    if folder.is_symlink() or not folder.is_dir():
        raise NotADirectoryError(0, "not a folder")


@cache  # once is enough
def _warn(reason: str) -> None:
    log.warning("%s: GPUs are not shared with other users' runs; its owner or root can remove it", reason)

"""Content hashes, atomic writes and locks for everything that is kept on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fer_lightning.core.errors import UserError

log = logging.getLogger(__name__)

_MAY_NOT = (errno.EACCES, errno.EPERM, errno.EROFS)

ABOUT = "about.txt"
"""File in an entry of a cache that describes the entry in words."""


def home() -> Path:
    """Return the folder of stores and caches.

    It is ``FER_CACHE``, else ``$XDG_CACHE_HOME/fer_lightning``, else ``~/.cache/fer_lightning``.
    """
    if folder := os.environ.get("FER_CACHE"):
        return user_path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base) / "fer_lightning"


def user_path(path: str | Path) -> Path:
    """Return a path that a user gave, with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path}: no home folder is known for {Path(path).parts[0]}; give the whole path"
        ) from error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Tell in one line that the cache cannot be written to.

    Raises:
        UserError: the block may not write to ``path``, which lies in the cache.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _MAY_NOT or not path.is_relative_to(home()):
            raise
        raise UserError(
            f"the cache {home()} cannot be written to ({error.strerror}); set FER_CACHE to a folder that can"
        ) from error


def _umask() -> int:
    """Return the umask of the process: tempfile makes private files, but a lab shares its stores."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def content_hash(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a JSON-like value, whatever the order of its dictionary keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: str | bytes | memoryview) -> None:
    """Write a file so that it is either complete or absent, even after a kill or on a full disk."""
    with atomic_path(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which is renamed to ``path`` if the block raises nothing."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    partial.chmod(0o666 & ~_umask())
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, which is renamed to ``path`` if the block raises nothing.

    Args:
        path: path of the folder.
        replace: whether a folder that exists under the name by then is replaced; else it is kept: another process
            has made it with the same content.
    """
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    partial, earlier = Path(folder), Path(folder).with_suffix(".earlier")
    partial.chmod(0o777 & ~_umask())
    try:
        yield partial
        if replace and path.exists():
            path.replace(earlier)
        if not path.exists():
            partial.replace(path)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process has left half written in a folder; the caller holds the folder's lock."""
    for path in folder.glob(".*.partial"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def lock_of(path: Path) -> FileLock:
    """Return the lock beside ``path``, not yet acquired."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f"{path.name}.lock"))


@contextmanager
def locked(path: Path, waiting_for: str = "") -> Iterator[None]:
    """Hold the lock beside ``path``; the kernel releases the lock of a process that died.

    Args:
        path: the file or folder that is worked on.
        waiting_for: logged if another process holds the lock.
    """
    lock = lock_of(path)
    try:
        with writing_to(path):
            lock.acquire(timeout=0)
    except Timeout:
        if waiting_for:
            log.info("waiting: %s", waiting_for)
        lock.acquire()
    try:
        remove_partial(path)
        yield
    finally:
        lock.release()


def require_checkpoint(path: Path) -> None:
    """Refuse the path of a checkpoint that does not exist.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path}: no such file; give the path of a run's best.ckpt")

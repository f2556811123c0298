"""Sizes and times of a data set's picture files, by which a prepared store is known to fit them still."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

THREADS = 16  # on a network file system, looking at files is waiting
FILES_AT_ONCE = 512
SAMPLE_BYTES = 4096

Stamps = NDArray[np.int64]


def files_hash(root: Path, paths: Sequence[str]) -> str:
    """Return a SHA-256 of where some files lie, and of the size and time of modification of each.

    Where all files have one time, as on file systems and in archives that keep none, the beginning, middle and end
    of each file count besides.

    Args:
        root: folder that the paths are relative to.
        paths: names of the files; one that is missing counts as such.
    """
    chunks = [paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE)]
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root)))
    with ThreadPoolExecutor(THREADS) as pool:
        stamps = np.concatenate([*pool.map(lambda chunk: _stamps(root, chunk), chunks), _stamps(root, [])])
        digest.update("\n".join(paths).encode("utf-8", "surrogateescape"))
        digest.update(stamps.tobytes())
        times = stamps[stamps[:, 0] >= 0, 1]
        if len(times) > 1 and (times == times[0]).all():
            for sample in pool.map(lambda chunk: _samples(root, chunk), chunks):
                digest.update(sample)
    return digest.hexdigest()


def _stamps(root: Path, paths: Sequence[str]) -> Stamps:
    """Return size in bytes and time of modification in ns (N, 2) of some files; -1, 0 for one without."""
    stamps = np.zeros((len(paths), 2), np.int64)
    for row, path in enumerate(paths):
        try:
            status = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118  (a Path for each would take longer)
            stamps[row] = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):  # ValueError: the name contains a zero byte
            stamps[row] = -1, 0
    return stamps


def _samples(root: Path, paths: Sequence[str]) -> bytes:
    """Return a digest of the beginning, middle and end of each of some files."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with (root / path).open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                for start in sorted({0, max(0, (size - SAMPLE_BYTES) // 2), max(0, size - SAMPLE_BYTES)}):
                    stream.seek(start)
                    digest.update(stream.read(SAMPLE_BYTES))
        except (OSError, ValueError):
            digest.update(b"unreadable")
    return digest.digest()

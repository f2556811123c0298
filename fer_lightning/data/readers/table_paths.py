"""Where the pictures lie that a table names: relative to the root, to the table, or in a folder beside it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.data.readers.layouts import PICTURES, Folder

SAMPLED = 20
"""Number of rows that are looked up to find out where the pictures lie."""

MANY = 50  # folders: with more, those below them are not looked into
ABSOLUTE = r"^([/\\]|[A-Za-z]:)"
UPWARDS = r"(^|/)\.\.(/|$)"


def relative_to_root(folder: Folder, table: str, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the paths of a table relative to the root of the data set; those that lead out of it still do.

    Args:
        folder: root of the data set.
        table: path of the table, relative to the root.
        paths: what the table names pictures by (N,).
    """
    sampled = [path.strip() for path in _sample(paths)]
    windows = any("\\" in path for path in sampled) and not any("/" in path for path in sampled)
    if windows:
        sampled = [path.replace("\\", "/") for path in sampled]
    base, ending = _place(folder, table, [path for path in sampled if path and not re.match(ABSOLUTE, path)])
    roots = tuple(dict.fromkeys((folder.path.as_posix(), os.path.realpath(folder.path))))
    # chunk by chunk: each step is a copy of what it works on
    chunks = [_straight(_below_root(chunk, windows, roots, base, ending)) for chunk in paths.chunks]
    return pa.chunked_array(chunks, pa.string())


def _below_root(paths: pa.Array, windows: bool, roots: Sequence[str], base: str, ending: str) -> pa.Array:
    """Return paths below one of the ``roots``, or below ``base`` with an ``ending``, relative to the root."""
    paths = pc.utf8_trim_whitespace(paths)
    if windows:
        paths = pc.replace_substring(paths, "\\", "/")
    absolute = pc.match_substring_regex(paths, ABSOLUTE)
    below_root = paths
    for root in roots:
        below = pc.starts_with(paths, f"{root}/")
        below_root = pc.if_else(below, pc.utf8_slice_codeunits(paths, len(root) + 1), below_root)
    return pc.if_else(pc.or_(absolute, pc.equal(paths, "")), below_root, _joined(base, ending, paths))


def _sample(paths: pa.ChunkedArray) -> list[str]:
    """Return some of the paths, evenly spaced."""
    numbers = np.linspace(0, max(len(paths) - 1, 0), min(SAMPLED, len(paths))).astype(np.int64)
    return [path for path in paths.take(pa.array(numbers)).to_pylist() if path]


def _place(folder: Folder, table: str, sampled: Sequence[str]) -> tuple[str, str]:
    """Return the folder in which most of the sampled pictures lie, and the ending that their names lack.

    Without any of the pictures it is the table's folder.
    """
    beside = posixpath.dirname(table) or "."
    best, most = (beside, ""), 0
    endings = [""]
    if any(posixpath.splitext(path)[1].lower() not in PICTURES for path in sampled):
        endings += [*PICTURES, *(ending.upper() for ending in PICTURES)]
    for base in _bases(folder, beside):
        for ending in endings:
            found = sum(folder.is_file(f"{base}/{path}{ending}") for path in sampled)
            if found > most:
                best, most = (base, ending), found
            if found == len(sampled):
                return best
    return best


def _bases(folder: Folder, beside: str) -> Iterator[str]:
    """Yield the folders that paths may be relative to: that of the table, the root, and those below these."""
    tops = list(dict.fromkeys((beside, ".")))
    yield from tops
    level = [f"{top}/{name}" for top in tops for name in folder.folders(top) if folder.is_folder(f"{top}/{name}")]
    yield from level
    if len(level) <= MANY:
        yield from (f"{above}/{name}" for above in level for name in folder.folders(above))


def _joined(base: str, ending: str, paths: pa.Array) -> pa.Array:
    """Return the paths below ``base``, with an ending where they have none of a picture."""
    if ending:
        pictures = "|".join(known.removeprefix(".") for known in PICTURES)
        whole = pc.match_substring_regex(paths, rf"\.({pictures})$", ignore_case=True)
        paths = pc.if_else(whole, paths, pc.binary_join_element_wise(paths, ending, ""))
    return paths if base == "." else pc.binary_join_element_wise(base, paths, "/")


def _straight(paths: pa.Array) -> pa.Array:
    """Return the paths without "./" and "folder/../", which would make two paths of one picture."""
    detours = pc.match_substring_regex(paths, rf"(^|/)\./|//|{UPWARDS}")
    if not pc.any(detours).as_py():
        return paths
    straight = [posixpath.normpath(path) if path else "" for path in paths.to_pylist()]
    return pc.if_else(detours, pa.array(straight, pa.string()), paths)

"""Groups of training faces that must stay together: one person's, and copies and near copies of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_lightning.data.near_copies import near_groups

Integers = NDArray[np.int64]


def near_copies(files: Sequence[Path], named: NDArray[np.bool_]) -> Integers:
    """Group faces that look alike, where nobody says who is pictured.

    Args:
        files: looks of the faces, shard by shard, see ``Part.looks_file``.
        named: whether a face's person (N,) is known. Such a face is in a group of its own: many people look alike
            on a small grey picture, and the name is the better evidence.

    Returns:
        (N,) number of each face's group.
    """
    looks = [np.load(file) for file in files]
    hashes = np.concatenate([[], *(look["hashes"] for look in looks)]).astype(np.uint64)
    thumbs = np.concatenate([look["thumbs"] for look in looks]) if looks else np.zeros((0, 1, 1), np.uint8)
    rows = np.flatnonzero(~named & thumbs.any(axis=(1, 2)))
    group = np.arange(len(hashes)) + len(rows)
    group[rows] = near_groups(hashes[rows], thumbs[rows])
    return group


def joined(*groupings: Integers) -> Integers:
    """Return group numbers (N,): rows are in one group if any of the groupings, directly or in a chain, says so.

    Args:
        groupings: group numbers (N,), any integers.
    """
    rows = np.arange(len(groupings[0]))
    nodes, total = [], len(rows)
    for grouping in groupings:
        number = np.unique(grouping, return_inverse=True)[1].ravel()
        nodes.append(number + total)
        total += int(number.max(initial=-1)) + 1
    links = np.ones(len(rows) * len(groupings), np.bool_), (np.tile(rows, len(groupings)), np.concatenate(nodes))
    together: Integers = connected_components(coo_array(links, shape=(total, total)), directed=False)[1]
    return together[: len(rows)].astype(np.int64)


def numbers(column: pa.ChunkedArray) -> Integers:
    """Return numbers (N,) that are equal where a column's texts are; a null equals nothing else."""
    codes = column.combine_chunks().dictionary_encode().indices
    missing = codes.is_null().to_numpy(zero_copy_only=False)
    group: Integers = codes.fill_null(0).to_numpy().astype(np.int64)
    return np.where(missing, -1 - np.arange(len(group)), group)

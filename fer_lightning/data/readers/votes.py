"""FERPlus's ten vote counts of a face: the official majority rule, and the votes as shares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.data.manifest import Fault
from fer_lightning.data.readers.common import set_aside
from fer_lightning.data.readers.labels import Names

VOTES = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt", "unknown", "not a face")
"""Names of the ten vote counts of a row, in their order."""

NO_MAJORITY = "no majority"


def countable(table: pa.Table, faults: list[Fault]) -> pa.Table:
    """Return the rows of a table whose columns VOTES are counts, as integers; the other rows become faults."""
    texts = {name: pc.utf8_trim_whitespace(table[name]) for name in VOTES}
    counts = reduce(pc.and_, [pc.match_substring_regex(text, r"^\d{1,6}$") for text in texts.values()])
    table = set_aside(table, pc.invert(counts), "bad_votes", VOTES, faults)
    for name, text in texts.items():
        table = table.set_column(table.schema.get_field_index(name), name, text.filter(counts).cast(pa.int64()))
    return table


def labels_and_shares(table: pa.Table, names: Names, classes: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns ``label`` and ``votes`` of a manifest, from the columns VOTES of a table."""
    votes = np.stack([table[name].to_numpy() for name in VOTES], axis=1)
    ours = [names.ours[name] for name in (*VOTES, NO_MAJORITY)]
    labels = np.array(ours, dtype=object)[majority(votes)]  # index -1 is the last one
    of_classes = shares(votes, classes, ours)
    offsets = np.arange(len(votes) + 1, dtype=np.int32) * len(classes)
    return {
        "label": pa.array(labels, pa.string()),
        "votes": pa.ListArray.from_arrays(pa.array(offsets), pa.array(of_classes.ravel())),
    }


def _counted(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the vote counts without single votes, which the official rule takes for outliers."""
    return np.where(votes <= 1, 0, votes)


def majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Apply the official rule: a single vote does not count, and the winner needs more than half of the others.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.

    Returns:
        (N,) index into VOTES; -1 where nothing has a majority.
    """
    counted = _counted(votes)
    return np.where(2 * counted.max(axis=1) > counted.sum(axis=1), counted.argmax(axis=1), -1)


def shares(
    votes: NDArray[np.int64], classes: Sequence[str], names: Sequence[str | None] = VOTES
) -> NDArray[np.float32]:
    """Return the votes for some classes as shares that sum to 1; single votes do not count, as in ``majority``.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.
        classes: C class names; one that no vote is called by gets no votes.
        names: names of the ten columns.

    Returns:
        (N, C); zeros where no class has more than one vote.
    """
    counted = np.zeros((len(votes), len(classes)), np.float32)
    for k, name in enumerate(classes):
        columns = [column for column, other in enumerate(names) if other == name]
        counted[:, k] = _counted(votes[:, columns]).sum(axis=1)
    counted /= np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return counted

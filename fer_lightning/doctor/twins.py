"""Rows that show the same or almost the same picture: inside a split, across splits, with different labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Twins:
    """A row and the rows that it is a copy of; ``kind`` is the kind of fault."""

    kind: str
    row: int
    others: Sequence[int]


def groups(numbers: Integers) -> Iterator[list[int]]:
    """Return the ascending indices of each number that occurs more than once; negative numbers are ignored."""
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    borders = np.flatnonzero(np.diff(numbers[order])) + 1
    return (rows.tolist() for rows in np.split(order, borders) if len(rows) > 1)


def same(number: Integers, split: Integers, labels: Sequence[str]) -> Iterator[Twins]:
    """Yield duplicates inside and across splits, and groups with several labels.

    A held-out row is yielded once, with its twins in the splits before its own.

    Args:
        number: (N,) equal for rows whose pixels are equal; negative for rows without a picture.
        split: (N,) index of each row's split in train, val, test.
        labels: label of each row (N,).
    """
    for rows in groups(number):
        for same_split, earlier in _by_split(rows, split):
            yield from (Twins("duplicate", row, same_split[:1]) for row in same_split[1:])
            if earlier:
                yield from (Twins("cross_split_duplicate", row, earlier) for row in same_split)
        if len({labels[row] for row in rows}) > 1:
            yield Twins("labels_disagree", rows[0], rows[1:])


def alike(group: Integers, number: Integers, split: Integers) -> Iterator[Twins]:
    """Yield near duplicates inside and across splits, without pixel-identical ones.

    Args:
        group: (N,) equal for rows that look almost the same; negative for rows that were not compared.
        number: see ``same``.
        split: see ``same``.
    """
    for rows in groups(group):
        for same_split, earlier in _by_split(rows, split):
            firsts = list({number[row]: row for row in reversed(same_split)}.values())[::-1]
            yield from (Twins("near_duplicate", row, firsts[:1]) for row in firsts[1:])
            identical = {number[row] for row in earlier}
            if earlier:
                different = (row for row in same_split if number[row] not in identical)
                yield from (Twins("cross_split_near_duplicate", row, earlier) for row in different)


def _by_split(rows: Sequence[int], split: Integers) -> Iterator[tuple[list[int], list[int]]]:
    """Yield a group's rows of each split, with those of the splits before it."""
    earlier: list[int] = []
    for _, group in groupby(sorted(rows, key=lambda row: split[row]), lambda row: split[row]):
        same_split = list(group)
        yield same_split, earlier
        earlier = earlier + same_split

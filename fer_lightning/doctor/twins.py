"""Rows that show the same picture, or all but the same one: inside a split, across splits, with other labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Twins:
    """A row and those that it is a copy of; ``kind`` is a fault's."""

    kind: str
    row: int
    others: Sequence[int]


def groups(numbers: Integers) -> Iterator[list[int]]:
    """The places of each number that occurs more than once, ascending; negative numbers stand for nothing."""
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    borders = np.flatnonzero(np.diff(numbers[order])) + 1
    return (places.tolist() for places in np.split(order, borders) if len(places) > 1)


def same(number: Integers, split: Integers, labels: Sequence[str]) -> Iterator[Twins]:
    """Duplicates inside and across splits, and groups with several labels.

    Args:
        number: (N,) equal for rows whose pixels are; negative for rows without a picture.
        split: (N,) place of each row's split in train, val, test. A held-out row is told once, with its twins in
            the splits before its own.
        labels: N names.
    """
    for rows in groups(number):
        for here, before in _by_split(rows, split):
            yield from (Twins("duplicate", row, here[:1]) for row in here[1:])
            if before:
                yield from (Twins("cross_split_duplicate", row, before) for row in here)
        if len({labels[row] for row in rows}) > 1:
            yield Twins("labels_disagree", rows[0], rows[1:])


def alike(group: Integers, number: Integers, split: Integers) -> Iterator[Twins]:
    """Near duplicates inside and across splits, those left out that are pixel-identical.

    Args:
        group: (N,) equal for rows that look all but the same; negative for rows that were not compared.
        number: see ``same``.
        split: see ``same``.
    """
    for rows in groups(group):
        for here, before in _by_split(rows, split):
            firsts = list({number[row]: row for row in reversed(here)}.values())[::-1]
            yield from (Twins("near_duplicate", row, firsts[:1]) for row in firsts[1:])
            identical = {number[row] for row in before}
            if before:
                yield from (
                    Twins("cross_split_near_duplicate", row, before)
                    for row in here
                    if number[row] not in identical
                )


def _by_split(rows: Sequence[int], split: Integers) -> Iterator[tuple[list[int], list[int]]]:
    """A group's rows of each split, and those of the splits before it."""
    of = defaultdict(list)
    for row in rows:
        of[int(split[row])].append(row)
    for place in sorted(of):
        yield of[place], [row for earlier in sorted(of) if earlier < place for row in of[earlier]]

"""Pictures that look all but the same: found by a hash of their looks, confirmed by a second look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_lightning.data.store.crop import Pixels

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Thumbs = NDArray[np.uint8]

DISTANCE = 12
"""Bits in which two hashes may differ for the pictures to be worth a second look."""

ALIKE = 0.94
"""Correlation from which two pictures are the same one, altered.

By eye on FERPlus: of 288 pairs above it all are one photograph, of 100 between 0.92 and 0.94 six are not.
A copy that is recompressed (JPEG quality 30), halved and back, or a fifth brighter or darker is found in 99.7 to
100 % of the cases, one that is moved by 2 of its 48 pixels in 78 %.
"""

THUMB = 24
INNER = slice(2, THUMB - 2)
"""What is compared of a thumbnail: the other may lie up to two pixels, a twelfth of its side, beside it."""

_FREQUENCIES = 12  # of each axis of a picture's cosine transform

BANDS = 5
_TOGETHER = 2**20  # pairs in memory at a time


def _lowest() -> NDArray[np.intp]:
    """Places of the 64 lowest frequencies but the mean, in a square of them laid out flat."""
    down, across = np.indices((_FREQUENCIES, _FREQUENCIES))
    return np.lexsort((np.abs(down - across).ravel(), (down + across).ravel()))[1:65]


_LOWEST = _lowest()


def look_hash(grey: Pixels) -> int:
    """The signs of the 64 lowest frequencies of a (32, 32) picture: neither brightness nor contrast matters."""
    waves = cv2.dct(grey.astype(np.float32))[:_FREQUENCIES, :_FREQUENCIES].ravel()[_LOWEST]
    return int(np.packbits(waves > 0).view(np.uint64)[0])


def near_groups(hashes: Hashes, thumbs: Thumbs, progress: Callable[[int, int], None] | None = None) -> Integers:
    """Groups of pictures that look all but the same, directly or by way of others.

    Not every pair is compared: all whose hashes differ in up to nine bits are found, of the others nearly all.

    Args:
        hashes: (N,) of the pictures' looks.
        thumbs: (N, THUMB, THUMB) grey, none of them flat.
        progress: called with (pairs looked at, pairs).

    Returns:
        (N,) number of each picture's group; most are alone in theirs.
    """
    if len(hashes) < 2:
        return np.arange(len(hashes))
    pairs = candidates(hashes)
    alike = np.zeros(len(pairs), np.bool_)
    for done, (first, second) in enumerate(pairs):
        alike[done] = likeness(thumbs[first], thumbs[second]) >= ALIKE
        if progress and done % 1000 == 0:
            progress(done, len(pairs))
    first, second = pairs[alike].T
    links = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(hashes), len(hashes)))
    groups: Integers = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def likeness(first: Thumbs, second: Thumbs) -> float:
    """The correlation of two thumbnails where they fit best, one moved by up to two pixels: at most 1."""
    return float(cv2.matchTemplate(first, second[INNER, INNER], cv2.TM_CCOEFF_NORMED).max())


def candidates(hashes: Hashes) -> Integers:
    """Pairs of hashes that differ in few bits, as (M, 2) places, each once.

    Of equal hashes only neighbours are paired, so that many equal ones make few pairs.
    """
    order = np.argsort(hashes, kind="stable")
    alone = np.r_[True, hashes[order][1:] != hashes[order][:-1]]
    equal = np.stack([order[:-1][~alone[1:]], order[1:][~alone[1:]]], axis=1)
    places = order[alone]
    edges = np.linspace(0, 64, BANDS + 1).astype(int)
    found = [
        np.minimum(first, second) * len(places) + np.maximum(first, second)
        for start, stop in pairwise(edges)
        for first, second in _within(hashes[places], int(start), int(stop - start))
    ]
    codes = np.unique(np.concatenate(found))
    near = np.stack(np.divmod(codes, len(places) or 1), axis=1)
    return np.concatenate([equal, places[near]])


def _within(hashes: Hashes, start: int, width: int) -> Iterator[tuple[Integers, Integers]]:
    """Pairs that differ in few bits, and in at most one of the ``width`` bits from ``start`` on: this band.

    Sorted by band, the hashes of an equal band lie together, and so do those of a band with one bit turned.
    """
    band = ((hashes >> np.uint64(start)) & np.uint64(2**width - 1)).astype(np.int64)
    order = np.argsort(band, kind="stable")
    band, hashes = band[order], hashes[order]
    begins = np.searchsorted(band, np.arange(2**width + 1))
    for turned in (0, *(1 << bit for bit in range(width))):
        partner = band ^ turned
        end = begins[partner + 1]
        begin = np.where(partner > band, begins[partner], end)  # each pair from one of its sides
        if not turned:
            begin = np.arange(1, len(band) + 1)
        for first, second in _ranges(begin, end):
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= DISTANCE
            yield order[first[near]], order[second[near]]


def _ranges(begin: Integers, end: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Every place k with all of begin[k] ... end[k] - 1, as pairs, about _TOGETHER at a time."""
    counts = end - begin
    sums = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = sums[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(sums, before + _TOGETHER, "right")))
        here = counts[start:stop]
        first = np.repeat(np.arange(start, stop), here)
        offset = np.repeat(begin[start:stop] - (sums[start:stop] - here - before), here)
        yield first, np.arange(len(first)) + offset
        start = stop

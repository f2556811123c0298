"""Pictures that look almost the same: found by a hash of their looks, confirmed by comparing thumbnails."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_lightning.data.counting import Progress

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Thumbs = NDArray[np.uint8]

DISTANCE = 12
"""Most bits in which two hashes may differ for the thumbnails to be compared."""

ALIKE = 0.94
"""Correlation from which on two pictures count as near copies.

By eye on FERPlus: all of 288 pairs above it show one photograph; six of 100 pairs between 0.92 and 0.94 do not.
A copy that is recompressed (JPEG quality 30), halved and enlarged again, or a fifth brighter or darker is found in
99.7 to 100 % of the cases, a copy that is moved by 2 of its 48 pixels in 78 %.
"""

SIDE = 32
"""Side of the picture that is hashed, in pixels."""

THUMB = 24
INNER = slice(2, THUMB - 2)
"""The part of a thumbnail that is compared; the other thumbnail may be moved by up to two pixels, a twelfth."""

_FREQUENCIES = 12  # per axis, of a picture's cosine transform

BANDS = 5
_PAIRS_AT_ONCE = 2**20


_DOWN, _ACROSS = np.indices((_FREQUENCIES, _FREQUENCIES)).reshape(2, -1)
_LOWEST = np.lexsort((np.abs(_DOWN - _ACROSS), _DOWN + _ACROSS))[1:65]  # without the first, which is the mean


FLAT = 3.0
"""Standard deviation, of 255, below which a thumbnail has nothing to compare."""


def thumbnail(small: Pixels) -> tuple[int, bytes]:
    """Return the look hash of a face, and its (THUMB, THUMB) grey values; no bytes if there is nothing to compare.

    Args:
        small: the face resized to (SIDE, SIDE, 3), BGR.
    """
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return look_hash(grey), thumb.tobytes() if thumb[INNER, INNER].std() >= FLAT else b""


def look_hash(grey: Pixels) -> int:
    """Return the signs of a (32, 32) picture's 64 lowest frequencies, whatever its brightness and contrast."""
    waves = cv2.dct(grey.astype(np.float32))[:_FREQUENCIES, :_FREQUENCIES].ravel()[_LOWEST]
    return int(np.packbits(waves > 0).view(np.uint64)[0])


def near_groups(hashes: Hashes, thumbs: Thumbs, progress: Progress | None = None) -> Integers:
    """Group pictures that look almost the same, directly or through other pictures.

    Not every pair is compared: all pairs whose hashes differ in at most nine bits are, and nearly all others up to
    ``DISTANCE``.

    Args:
        hashes: (N,) look hashes.
        thumbs: (N, THUMB, THUMB) grey thumbnails, none of them flat.
        progress: callback that receives (pairs compared, pairs).

    Returns:
        (N,) number of each picture's group; most groups have one picture.
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
    """Return the correlation (at most 1) of two thumbnails, one moved by up to two pixels to fit best."""
    return float(cv2.matchTemplate(first, second[INNER, INNER], cv2.TM_CCOEFF_NORMED).max())


def candidates(hashes: Hashes) -> Integers:
    """Return pairs of hashes that differ in few bits, as indices (M, 2), each pair once.

    Equal hashes are only chained, so that many of them make few pairs.
    """
    order = np.argsort(hashes, kind="stable")
    alone = np.r_[True, hashes[order][1:] != hashes[order][:-1]]
    equal = np.stack([order[:-1][~alone[1:]], order[1:][~alone[1:]]], axis=1)
    distinct = order[alone]
    edges = np.linspace(0, 64, BANDS + 1).astype(int)
    codes = [
        np.minimum(first, second) * len(distinct) + np.maximum(first, second)
        for start, stop in pairwise(edges)
        for first, second in _within(hashes[distinct], int(start), int(stop - start))
    ]
    near = np.stack(np.divmod(np.unique(np.concatenate(codes)), len(distinct) or 1), axis=1)
    return np.concatenate([equal, distinct[near]])


def _within(hashes: Hashes, start: int, width: int) -> Iterator[tuple[Integers, Integers]]:
    """Yield pairs that differ in few bits, and in at most one bit of a band: the ``width`` bits from ``start`` on.

    Sorted by band, hashes with equal bands are neighbours, and so are those whose band has one bit flipped.
    """
    band = ((hashes >> np.uint64(start)) & np.uint64(2**width - 1)).astype(np.int64)
    order = np.argsort(band, kind="stable")
    band, hashes = band[order], hashes[order]
    begins = np.searchsorted(band, np.arange(2**width + 1))
    for flipped in (0, *(1 << bit for bit in range(width))):
        partner = band ^ flipped
        end = begins[partner + 1]
        begin = np.where(partner > band, begins[partner], end)  # yield each pair from one side only
        if not flipped:
            begin = np.arange(1, len(band) + 1)
        for first, second in _ranges(begin, end):
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= DISTANCE
            yield order[first[near]], order[second[near]]


def _ranges(begin: Integers, end: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield pairs of each index k with all of begin[k] ... end[k] - 1, about _PAIRS_AT_ONCE at a time."""
    counts = end - begin
    sums = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = sums[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(sums, before + _PAIRS_AT_ONCE, "right")))
        part = slice(start, stop)
        first = np.repeat(np.arange(start, stop), counts[part])
        offset = np.repeat(begin[part] - (sums[part] - counts[part] - before), counts[part])
        yield first, np.arange(len(first)) + offset
        start = stop

"""The search for near copies, beside one that compares all pairs."""

import numpy as np
import pytest
from bad_files import encoded, face

from fer_lightning.data import near_copies
from fer_lightning.data.near_copies import THUMB
from fer_lightning.doctor.pictures import look


def close_pairs(hashes, distance):
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    return {(a, b) for a, b in np.argwhere(bits <= distance).tolist() if a < b}


def turned(hashes, bits, rng):
    """The hashes with so many of their bits turned."""
    places = np.stack([rng.permutation(64)[:bits] for _ in hashes]).astype(np.uint64)
    return hashes ^ np.bitwise_or.reduce(np.uint64(1) << places, axis=1)


def test_all_pairs_within_nine_bits_are_found():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 300, np.uint64)
    hashes = np.concatenate([base, *(turned(base, bits, rng) for bits in range(1, 16))])
    found = [tuple(sorted(pair)) for pair in near_copies.candidates(hashes).tolist()]
    assert len(found) == len(set(found))
    assert close_pairs(hashes, 9) <= set(found) <= close_pairs(hashes, near_copies.DISTANCE)
    assert len(found) > 0.9 * len(close_pairs(hashes, near_copies.DISTANCE))


def test_equal_hashes_are_chained():
    hashes = np.array([5, 7, 5, 5, 2**63 - 2**20, 7], np.uint64)
    thumbs = np.random.default_rng(0).integers(0, 256, (6, THUMB, THUMB), np.uint8)
    thumbs[2:4] = thumbs[0]
    assert near_copies.near_groups(hashes, thumbs).tolist() == [0, 1, 0, 0, 2, 3]
    pairs = {tuple(sorted(pair)) for pair in near_copies.candidates(hashes).tolist()}
    assert {(0, 2), (2, 3), (1, 5), (0, 1)} == pairs  # 5 and 7 differ in one bit


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_to_compare(rows):
    assert (
        len(near_copies.near_groups(np.zeros(rows, np.uint64), np.zeros((rows, THUMB, THUMB), np.uint8))) == rows
    )


def test_many_equal_pictures_make_few_pairs():
    hashes = np.concatenate([np.full(20_000, 3, np.uint64), np.full(20_000, 2**40, np.uint64)])
    assert len(near_copies.candidates(hashes)) == 2 * 19_999 + 1


def test_few_of_all_pairs_are_looked_at(monkeypatch):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 100_000, np.uint64)
    looked_at, ranges = [], near_copies._ranges

    def counted(begin, end):
        for first, second in ranges(begin, end):
            looked_at.append(len(first))
            yield first, second

    monkeypatch.setattr(near_copies, "_ranges", counted)
    pairs = near_copies.candidates(np.concatenate([base, turned(base[:1000], 5, rng)]))
    assert {(row, 100_000 + row) for row in range(1000)} <= set(map(tuple, np.sort(pairs).tolist()))
    assert 0 < sum(looked_at) < 0.02 * 101_000**2 / 2


def test_looks_do_not_depend_on_brightness_contrast_and_size():
    pixels = face(1, 96)
    first = look(encoded(pixels, ".png"), None, 0.0)
    for other in ((pixels * 0.6 + 30).astype(np.uint8), face(1, 48)):
        second = look(encoded(other, ".png"), None, 0.0)
        assert (first.looks ^ second.looks).bit_count() <= 4
        assert first.digest != second.digest
    assert (first.looks ^ look(encoded(face(2, 96), ".png"), None, 0.0).looks).bit_count() > near_copies.DISTANCE

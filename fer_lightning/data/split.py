"""The minival: a part of the training images held out to choose checkpoints by."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]


def minival(labels: ArrayLike, groups: ArrayLike, share: float, seed: int) -> Mask:
    """Which training images are held out: stratified by class, and a group is wholly in or wholly out.

    Classes are served from the rarest to the most frequent, and a group with images of several classes goes
    with its rarest one, so that no later choice disturbs the share of a class that was served. A class misses
    its share by at most half of its smallest group left in training (and by what rarer classes took of it). A
    class with two groups or more has an image on either side, unless rarer classes share all of its groups.

    Args:
        labels: (N,) class indices.
        groups: (N,) equal for images that must not be separated (duplicates, one identity).
        share: of each class to hold out, in (0, 1).
        seed: of the draw.

    Returns:
        (N,) True for the images held out.

    Raises:
        ValueError: ``share`` is not in (0, 1), or the lengths differ.
    """
    if not 0 < share < 1:
        raise ValueError(f"the minival's share must lie between 0 and 1, not {share}")
    group, label = (np.unique(np.asarray(values), return_inverse=True)[1].ravel() for values in (groups, labels))
    if len(group) != len(label):
        raise ValueError(f"{len(label)} labels but {len(group)} groups")
    if len(label) == 0:
        return np.zeros(0, np.bool_)
    counts = np.bincount(label)
    rarity = np.argsort(np.argsort(counts, kind="stable"))
    owner = np.full(group.max() + 1, len(counts))
    np.minimum.at(owner, group, rarity[label])
    order = np.random.default_rng(seed).permutation(len(owner))
    held_out = np.zeros(len(owner), np.bool_)
    for rank, this in enumerate(np.argsort(rarity)):
        images = np.bincount(group[label == this], minlength=len(owner))  # of this class, by group
        own = order[owner[order] == rank]
        served = (images > 0) & (owner < rank)
        inside, outside = served & held_out, served & ~held_out
        target = round(share * int(counts[this])) - int(images[inside].sum())
        held_out[own] = _choose(images[own], target, some=not inside.any(), spare=not outside.any())
    return held_out[group]


def _choose(sizes: Integers, target: int, *, some: bool, spare: bool) -> Mask:
    """Which of the groups, taken in their order, sum up to about ``target`` images.

    ``some``: at least one must be taken; ``spare``: at least one must be left, which comes first.
    """
    taken = np.zeros(len(sizes), np.bool_)
    missing = target
    while (open_ := np.flatnonzero(~taken & (sizes <= missing))).size:
        fitting = open_[np.cumsum(sizes[open_]) <= missing]
        taken[fitting] = True
        missing -= int(sizes[fitting].sum())
    left = np.flatnonzero(~taken)
    if left.size:
        smallest = left[np.argmin(sizes[left])]
        if sizes[smallest] - missing < missing or (some and not taken.any()):
            taken[smallest] = True
    if spare and taken.all() and taken.size:
        taken[np.argmin(sizes)] = False
    return taken

"""Choice of the test set or fold, and of the minival: the training images that checkpoints are chosen by."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import HeldOut, LeftOut, Manifest
from fer_lightning.data.readers.common import split_of

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

ALL = "all"
"""The ``data.test_split`` with which the whole set is the test set, and nothing is left to train on."""


def with_test_split(manifest: Manifest, test_split: str) -> Manifest:
    """Return a manifest with the splits "train" and "test" only.

    Args:
        manifest: Manifest with the splits that the set itself has.
        test_split: "test" or "val", the one to test on. Where the set has neither, a share such as "20%" of each
            class is held out of the training split once the faces are prepared, see ``test_rows``.
            "all": all splits together are tested on, and none is trained on.

    Raises:
        UserError: ``test_split`` names no split of the set, or no share where the set has none.
    """
    if test_split == ALL:
        rows = _with_split(manifest.rows, pa.array(["test"] * manifest.rows.num_rows, pa.string()))
        skipped = {"test": _summed(manifest.skipped)}
        return replace(manifest, rows=rows, skipped=skipped, tested_on=ALL, to_train=False)
    splits = [split for split in ("test", "val") if split in pc.unique(manifest.rows["split"]).to_pylist()]
    if not splits:
        share = share_of(test_split)
        if share is None:
            raise UserError(
                f"data={manifest.name}: there is no test part in {manifest.root}; name one `test` or `val`, or "
                "say data.test_split=20% to hold out a fifth of each class, or data.folds=10 data.fold=0; "
                "`fer evaluate` tests on the whole set with data.test_split=all"
            )
        return replace(manifest, held_out=HeldOut(share), tested_on=test_split)
    part = split_of(test_split)
    if part not in splits:
        known = " or ".join(f"data.test_split={split}" for split in splits)
        raise UserError(f"data={manifest.name} has no split {test_split!r} to test on; what works here: {known}")
    rows = manifest.rows.filter(pc.is_in(manifest.rows["split"], pa.array(["train", part])))
    split = pc.if_else(pc.equal(rows["split"], "train"), "train", "test")
    skipped = {"train": manifest.skipped.get("train", {}), "test": manifest.skipped.get(part, {})}
    return replace(manifest, rows=_with_split(rows, split), skipped=skipped, tested_on=part)


def share_of(test_split: str) -> float | None:
    """Return 0.2 for "20%"; None for what is no share."""
    percent = re.fullmatch(r"([1-9]\d?)%", test_split)
    return int(percent[1]) / 100 if percent else None


def with_folds(manifest: Manifest, held_out: HeldOut) -> Manifest:
    """Return a manifest with all parts of a set put together, to hold out a fold once the faces are prepared."""
    together = pa.array(["train"] * manifest.rows.num_rows, pa.string())
    skipped = {"train": _summed(manifest.skipped)}
    rows = _with_split(manifest.rows, together)
    return replace(manifest, rows=rows, skipped=skipped, held_out=held_out, tested_on=str(held_out))


def test_rows(held_out: HeldOut, labels: Integers, groups: Integers, ids: Sequence[str]) -> Mask:
    """Choose the images to test on; a group is wholly in or wholly out, and each class is served as far as it can.

    Args:
        held_out: The share or the fold.
        labels: (N,) class indices.
        groups: (N,) equal for images that must not be separated.
        ids: (N,) names of the images.

    Returns:
        (N,) True for the images held out.

    Raises:
        ValueError: There are fewer groups than folds.
    """
    if held_out.share is not None:
        return minival(labels, groups, held_out.share, order=_by_hash(groups, ids))
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    if len(np.unique(groups)) < held_out.folds:
        raise ValueError(f"folds={held_out.folds}: there are only {len(np.unique(groups))} groups of faces")
    folds = StratifiedGroupKFold(held_out.folds, shuffle=True, random_state=held_out.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is balanced as far as groups allow
        chosen = list(folds.split(labels, labels, groups))[held_out.fold][1]
    return np.isin(np.arange(len(labels)), chosen)


def _by_hash(groups: Integers, ids: Sequence[str]) -> Integers:
    """Return the order (G,) of the groups by a hash of their first image's name, whatever others there are."""
    _, first = np.unique(groups, return_index=True)
    return np.argsort([hashlib.sha256(ids[row].encode()).hexdigest() for row in first], kind="stable")


def only_test(manifest: Manifest, classes: Sequence[str]) -> Manifest:
    """Return the rows of a manifest that are tested on, to train on nothing, labelled with these classes.

    Args:
        manifest: Manifest with the splits "train" and "test", or a part that is held out later.
        classes: Class names in the classifier's order; those of the manifest are among them.
    """
    if manifest.held_out:
        return replace(manifest, classes=tuple(classes), to_train=False)
    rows = manifest.rows.filter(pc.equal(manifest.rows["split"], "test"))
    skipped = {"test": manifest.skipped.get("test", {})}
    return replace(manifest, rows=rows, classes=tuple(classes), skipped=skipped, to_train=False)


def _summed(skipped: LeftOut) -> dict[str, int]:
    """Return the numbers of rows left out by reason, over all splits."""
    total: Counter[str] = Counter()
    for reasons in skipped.values():
        total.update(reasons)
    return dict(total)


def _with_split(rows: pa.Table, split: pa.Array | pa.ChunkedArray) -> pa.Table:
    index = rows.schema.get_field_index("split")
    return rows.set_column(index, rows.schema.field(index), split)


def minival(
    labels: ArrayLike, groups: ArrayLike, share: float, seed: int = 0, order: Integers | None = None
) -> Mask:
    """Choose images to hold out, stratified by class; a group is wholly in or wholly out.

    Classes are served from the rarest to the most frequent, and a group with images of several classes goes
    with its rarest one, so that no later choice disturbs the share of a class that was served. A class misses
    its share by at most half of its smallest group left in training (and by what rarer classes took of it). A
    class with two groups or more has an image on either side, unless rarer classes share all of its groups.

    Args:
        labels: (N,) class indices.
        groups: (N,) equal for images that must not be separated (duplicates, one identity).
        share: Share of each class to hold out, in (0, 1).
        seed: Seed of the draw.
        order: Order (G,) in which the distinct groups, ascending, are considered; None: one drawn from the seed.

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
    if order is None:
        order = np.random.default_rng(seed).permutation(len(owner))
    held_out = np.zeros(len(owner), np.bool_)
    for rank, rarest in enumerate(np.argsort(rarity)):
        images = np.bincount(group[label == rarest], minlength=len(owner))  # of this class, by group
        owned = order[owner[order] == rank]
        served = (images > 0) & (owner < rank)
        inside, outside = served & held_out, served & ~held_out
        target = round(share * int(counts[rarest])) - int(images[inside].sum())
        held_out[owned] = _choose(images[owned], target, some=not inside.any(), spare=not outside.any())
    return held_out[group]


def _choose(sizes: Integers, target: int, *, some: bool, spare: bool) -> Mask:
    """Choose groups, in their order, that sum up to about ``target`` images.

    Args:
        sizes: Images of each group (G,).
        target: Number of images to reach.
        some: Whether at least one group must be taken.
        spare: Whether at least one group must be left; goes before ``some``.

    Returns:
        (G,) True for the groups taken.
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

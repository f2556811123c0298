"""The minival: by class, by group, by seed; a whole set as test set."""

from dataclasses import replace

import numpy as np
import pytest
from stores import manifest

from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS
from fer_lightning.data.split import minival, only_test, with_test_split


def test_affectnet_sized_set_meets_the_share_of_every_class():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(8), AFFECTNET_TRAIN_COUNTS))
    groups = rng.integers(0, 240_000, len(labels))  # many of them span classes
    held_out = minival(labels, groups, 0.05, seed=0)
    shares = np.bincount(labels[held_out]) / np.array(AFFECTNET_TRAIN_COUNTS)
    np.testing.assert_allclose(shares, 0.05, atol=5e-4)
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_without_groups_the_counts_are_exact():
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    held_out = minival(labels, np.arange(150), 0.1, seed=3)
    assert np.bincount(labels[held_out]).tolist() == [10, 4, 1]


def test_seed_decides():
    labels, groups = np.repeat([0, 1], 50), np.arange(100)
    same = [minival(labels, groups, 0.2, seed) for seed in (1, 1, 2)]
    assert (same[0] == same[1]).all()
    assert (same[0] != same[2]).any()


@pytest.mark.parametrize("seed", range(300))
def test_groups_stay_together_and_every_class_is_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 80))
    labels = rng.integers(0, 5, size) * 7  # indices need not be dense
    groups = rng.integers(0, rng.integers(2, 80), size)
    share = rng.uniform(0.02, 0.9)
    held_out = minival(labels, groups, share, seed)
    assert held_out.dtype == np.bool_
    assert not set(groups[held_out]) & set(groups[~held_out])
    counts = {label: (labels == label).sum() for label in np.unique(labels)}
    for label in counts:
        of_class = labels == label
        members = np.unique(groups[of_class])
        shared = [set(labels[groups == group]) - {label} for group in members]
        if len(members) < 2:
            continue
        if all(others and min(counts[other] for other in others) <= counts[label] for others in shared):
            continue  # every group goes with a rarer class
        assert 0 < held_out[of_class].sum() < of_class.sum()


@pytest.mark.parametrize("seed", range(50))
def test_large_groups_miss_the_share_by_at_most_half_a_group(seed):
    sizes = np.array([30, 20, 10, 10, 8, 7, 6, 5, 3, 1])
    groups = np.repeat(np.arange(10), sizes)
    held_out = minival(np.zeros(100, int), groups, 0.3, seed)
    smallest_left = sizes[np.unique(groups[~held_out])].min()
    assert abs(int(held_out.sum()) - 30) <= smallest_left / 2


def test_a_class_with_a_single_group_stays_in_training():
    labels = np.array([0] * 20 + [1] * 5)
    groups = np.array([*range(20), *[99] * 5])
    held_out = minival(labels, groups, 0.5, seed=0)
    assert not held_out[labels == 1].any()


def test_two_groups_one_on_either_side_even_for_a_tiny_share():
    labels, groups = np.zeros(10, int), np.repeat([0, 1], [1, 9])
    assert minival(labels, groups, 0.01, seed=0).sum() == 1
    assert minival(labels, groups, 0.99, seed=0).sum() == 9


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_share_out_of_range(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        minival([0, 1], [0, 1], share, 0)


def test_lengths_differ():
    with pytest.raises(ValueError, match="2 labels but 3 groups"):
        minival([0, 1], [0, 1, 2], 0.5, 0)


def test_a_whole_set_is_tested_on(tmp_path):
    found = manifest(tmp_path, [(f"{split}.png", split, "happy", None) for split in ("train", "val", "test")])
    found = replace(found, skipped={"train": {"none": 3}, "val": {"none": 1, "fear": 2}})
    whole = with_test_split(found, "all")
    assert whole.rows["split"].to_pylist() == ["test"] * 3
    assert whole.rows["id"].equals(found.rows["id"])
    assert whole.skipped == {"test": {"none": 4, "fear": 2}}
    assert (whole.tested_on, whole.to_train) == ("all", False)


def test_equal_rows_of_a_split_and_of_a_whole_set_are_told_apart(tmp_path):
    found = manifest(tmp_path, [("a.png", "test", "happy", None)])
    one = only_test(with_test_split(found, "test"), found.classes)
    whole = with_test_split(found, "all")
    assert one.rows.equals(whole.rows)
    assert one.hash() != whole.hash()

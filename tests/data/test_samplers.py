"""The order of an epoch: the same for any number of ranks, another one every epoch, the same again for a seed."""

from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from fer_lightning.data.samplers import GlobalBatches, shuffle

LABELS = np.arange(50) % 7
BATCH = 12

Batches = list[list[tuple[int, int]]]


def sampler(rank: int = 0, ranks: int = 1, *, seed: int = 0, epoch: int = 0) -> GlobalBatches:
    made = GlobalBatches(LABELS, shuffle, BATCH, seed, rank, ranks)
    made.set_epoch(epoch)
    return made


def batches(**how: int) -> Batches:
    return list(sampler(**how))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_ranks_slices_joined_are_the_global_batches(ranks: int) -> None:
    slices = [batches(rank=rank, ranks=ranks, epoch=3) for rank in range(ranks)]
    assert {len(part) for own in slices for part in own} == {BATCH // ranks}
    joined = [[pair for part in parts for pair in part] for parts in zip(*slices, strict=True)]
    assert joined == batches(epoch=3)


def test_an_epoch_is_whole_batches_of_pictures_shown_once() -> None:
    found = batches()
    assert [len(batch) for batch in found] == [BATCH] * (len(LABELS) // BATCH)
    counts = Counter(index for batch in found for _, index in batch)
    assert set(counts.values()) == {1}
    assert set(counts) <= set(range(len(LABELS)))


def test_the_pictures_left_out_of_an_epoch_change() -> None:
    shown = [{index for batch in batches(epoch=epoch) for _, index in batch} for epoch in range(30)]
    left = [set(range(50)) - indices for indices in shown]
    assert all(len(missing) == 2 for missing in left)
    assert len(set().union(*left)) > 20


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_length_is_the_number_of_batches(ranks: int) -> None:
    made = sampler(ranks - 1, ranks)
    assert len(made) == len(list(made)) == 4


def test_each_index_travels_with_its_epoch() -> None:
    assert {epoch for batch in batches(epoch=5) for epoch, _ in batch} == {5}


def test_another_epoch_or_seed_is_another_order_and_the_same_are_the_same() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [index for batch in batches(seed=seed, epoch=epoch) for _, index in batch]

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_set_epoch_reaches_a_sampler_that_was_run_before() -> None:
    made = sampler()
    first = list(made)
    assert list(made) == first
    made.sampler.set_epoch(1)  # as Lightning does
    assert list(made) == batches(epoch=1) != first


def test_the_order_does_not_touch_numpys_global_generator() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    batches()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_a_loader_takes_it_as_batch_sampler() -> None:
    class Pairs:
        def __getitem__(self, item: tuple[int, int]) -> tuple[int, int]:
            return item

    loader = DataLoader(Pairs(), batch_sampler=sampler(1, 2), collate_fn=list)
    assert list(loader) == batches(rank=1, ranks=2)


@pytest.mark.parametrize("ranks", [5, 8, 24])
def test_ranks_that_do_not_divide_the_batch_are_refused(ranks: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size=12 .*{ranks} ranks"):
        sampler(0, ranks)


def test_fewer_pictures_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=12.* 11 pictures"):
        GlobalBatches(LABELS[:11], shuffle, BATCH, 0, 0, 1)


def test_shuffle_shows_every_picture_once() -> None:
    assert sorted(shuffle(LABELS, np.random.default_rng(0))) == list(range(50))

"""The order of an epoch: the same for any number of ranks, another one every epoch, the same again for a seed.

How often each class is shown is held against formulas written out here; every sampler of conf/ needs one.
"""

import math
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fer_lightning.config.compose import compose
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.options import BatchOptions
from fer_lightning.data.samplers import Draw, GlobalBatches, Pick, balanced, shown, shuffle
from fer_lightning.run import build

LABELS = np.arange(50) % 7
BATCH = 12

Batches = list[list[Pick]]


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
    counts = Counter(index for batch in found for index, _, _ in batch)
    assert set(counts.values()) == {1}
    assert set(counts) <= set(range(len(LABELS)))


def test_the_pictures_left_out_of_an_epoch_change() -> None:
    shown = [{index for batch in batches(epoch=epoch) for index, _, _ in batch} for epoch in range(30)]
    left = [set(range(50)) - indices for indices in shown]
    assert all(len(missing) == 2 for missing in left)
    assert len(set().union(*left)) > 20


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_length_is_the_number_of_batches(ranks: int) -> None:
    made = sampler(ranks - 1, ranks)
    assert len(made) == len(list(made)) == 4


def test_each_index_travels_with_its_epoch() -> None:
    assert {epoch for batch in batches(epoch=5) for _, epoch, _ in batch} == {5}


def test_another_epoch_or_seed_is_another_order_and_the_same_are_the_same() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [index for batch in batches(seed=seed, epoch=epoch) for index, _, _ in batch]

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
    class Picks:
        def __getitem__(self, item: Pick) -> Pick:
            return item

    loader = DataLoader(Picks(), batch_sampler=sampler(1, 2), collate_fn=list)
    assert list(loader) == batches(rank=1, ranks=2)


@pytest.mark.parametrize("ranks", [5, 8, 24])
def test_ranks_that_do_not_divide_the_batch_are_refused(ranks: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size=12 .*{ranks} ranks"):
        sampler(0, ranks)


def test_fewer_pictures_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=12.* 11 pictures"):
        GlobalBatches(LABELS[:11], shuffle, BATCH, 0, 0, 1)


def test_shuffle_shows_every_picture_once() -> None:
    assert sorted(shuffle(LABELS, np.random.default_rng(0), 0.0)) == list(range(50))


COUNTS = [194, 90, 40, 14, 6]
N, C = sum(COUNTS), len(COUNTS)
FACES = np.random.default_rng(0).permutation(np.repeat(np.arange(C), COUNTS))
EPOCHS = 400

every_sampler = pytest.mark.parametrize("name", groups()["sampler"])
any_progress = pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])


def formula(name: str, progress: float) -> list[float]:
    """Draws of each class in an epoch, expected; by hand, from the papers."""
    repeats = [max(1, math.sqrt(0.125 / (n / N))) for n in COUNTS]
    longer = sum(r * n for r, n in zip(repeats, COUNTS, strict=True))
    powers = sum(math.sqrt(n) for n in COUNTS)
    return {
        "shuffle": [float(n) for n in COUNTS],
        "balanced": [N / C] * C,
        "sqrt": [N * math.sqrt(n) / powers for n in COUNTS],
        "power": [N * math.sqrt(n) / powers for n in COUNTS],
        "progressive": [N * ((1 - progress) * n / N + progress / C) for n in COUNTS],
        "repeat_factor": [r * n * round(longer) / longer for r, n in zip(repeats, COUNTS, strict=True)],
    }[name]


@cache
def drawer(*words: str) -> Draw:
    """What a config says, by words of the command line."""
    return build.sampler(compose(words))


def indices(name: str, seed: int = 0, progress: float = 0.0) -> np.ndarray:
    return drawer(f"sampler={name}")(FACES, np.random.default_rng(seed), progress)


def faces_sampler(name: str, rank: int = 0, ranks: int = 1, *, seed: int = 0, epoch: int = 3) -> GlobalBatches:
    """An epoch of a fit of five: by default the fourth, progress 0.75."""
    made = GlobalBatches(FACES, drawer(f"sampler={name}"), BATCH, seed, rank, ranks, 5)
    made.set_epoch(epoch)
    return made


def flat(batches: GlobalBatches) -> list[int]:
    return [index for batch in batches for index, _, _ in batch]


@every_sampler
@any_progress
def test_classes_are_drawn_as_often_as_the_formula_says(name: str, progress: float) -> None:
    expected = np.array(formula(name, progress))
    found = np.array([np.bincount(FACES[indices(name, seed, progress)]) for seed in range(EPOCHS)])
    assert np.abs(found - expected).max() < 1 + 1e-9  # rounded, each time
    share = expected % 1  # of the epochs in which it is rounded up
    error = np.sqrt(share * (1 - share) / EPOCHS)
    assert (np.abs(found.mean(0) - expected) <= 3 * error + 1e-9).all()


@every_sampler
@any_progress
def test_an_epoch_is_always_as_long(name: str, progress: float) -> None:
    total = round(sum(formula(name, progress)))
    assert {len(indices(name, seed, progress)) for seed in range(30)} == {total}
    assert total == N or name == "repeat_factor"


@every_sampler
@any_progress
def test_pictures_of_a_class_are_shown_equally_often_but_for_one_time(name: str, progress: float) -> None:
    for seed in range(10):
        times = np.bincount(indices(name, seed, progress), minlength=N)
        assert max(np.ptp(times[k == FACES]) for k in range(C)) <= 1


@every_sampler
def test_over_the_epochs_all_pictures_of_a_class_are_shown_equally_often(name: str) -> None:
    times = sum(np.bincount(indices(name, seed, 1.0), minlength=N) for seed in range(EPOCHS)) / EPOCHS
    mean = (np.array(formula(name, 1.0)) / COUNTS)[FACES]
    error = np.sqrt(mean % 1 * (1 - mean % 1) / EPOCHS)
    assert (np.abs(times - mean) <= 5 * error + 1 / EPOCHS).all()


@every_sampler
def test_classes_are_mixed(name: str) -> None:
    order = indices(name)
    first, both = ((FACES[part] == 0).sum() for part in (order[: len(order) // 2], order))
    assert abs(first - both / 2) < 2.5 * math.sqrt(both)


@every_sampler
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_out_one_draw(name: str, ranks: int) -> None:
    parts = [faces_sampler(name, rank, ranks) for rank in range(ranks)]
    joined = [index for batches in zip(*parts, strict=True) for batch in batches for index, _, _ in batch]
    draw = drawer(f"sampler={name}")(FACES, np.random.default_rng([0, 3]), 0.75)
    assert joined == draw[: len(draw) // BATCH * BATCH].tolist()
    assert {len(part) for part in parts} == {len(list(parts[0]))} == {len(draw) // BATCH}


@every_sampler
def test_a_seed_and_an_epoch_fix_the_draw(name: str) -> None:
    drawn = [flat(faces_sampler(name, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in drawn}) == 9
    assert drawn[5] == flat(faces_sampler(name, seed=1, epoch=2))


@every_sampler
def test_no_sampler_touches_the_global_generators(name: str) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    flat(faces_sampler(name))
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("epoch", range(5))
def test_progress_goes_from_natural_to_balanced_over_the_fit(epoch: int) -> None:
    times = np.bincount(FACES[flat(faces_sampler("progressive", epoch=epoch))], minlength=C)
    assert np.abs(times - formula("progressive", epoch / 4)).max() <= 1 + N % BATCH  # those left out


def test_a_fit_of_one_epoch_stays_natural() -> None:
    batches = GlobalBatches(FACES, drawer("sampler=progressive"), BATCH, 0, 0, 1)
    assert set(Counter(flat(batches)).values()) == {1}


@pytest.mark.parametrize(("q", "like"), [(0, "balanced"), (0.5, "sqrt"), (1, "shuffle")])
def test_power_goes_from_balanced_to_natural(q: float, like: str) -> None:
    found = shown(FACES, drawer("sampler=power", f"sampler.q={q}"), 0.0)
    assert np.abs(found * COUNTS - formula(like, 0.0)).max() < 1


@pytest.mark.parametrize(("threshold", "rare"), [(1.0, 7.572), (0.01, 1.0)])  # sqrt(344 / 6); no class is so rare
def test_the_threshold_says_what_is_repeated(threshold: float, rare: float) -> None:
    draw = drawer("sampler=repeat_factor", f"sampler.threshold={threshold}")
    assert shown(FACES, draw, 0.0)[-1] == pytest.approx(rare, abs=1 / 6)
    made = GlobalBatches(FACES, draw, BATCH, 0, 0, 1)
    assert len(made) == len(list(made))


@every_sampler
@any_progress
def test_how_often_a_class_is_shown_is_told(name: str, progress: float) -> None:
    found = shown(FACES, drawer(f"sampler={name}"), progress)
    assert (np.abs(found - np.array(formula(name, progress)) / COUNTS) < 1 / np.array(COUNTS) + 1e-9).all()


@pytest.mark.parametrize("name", [name for name in groups()["sampler"] if name != "shuffle"])
def test_a_class_without_a_picture_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="class 1 has no picture"):
        drawer(f"sampler={name}")(np.array([0, 2, 2]), np.random.default_rng(0), 0.0)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("power", "q", value) for value in ("-0.1", "1.1", "7", "nan")]
    + [("repeat_factor", "threshold", value) for value in ("0", "-1", "1.5", "nan")],
)
def test_numbers_without_sense_are_refused(name: str, key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"^sampler: {key} must be in .* got {value}"):
        drawer(f"sampler={name}", f"sampler.{key}={value}")


def test_a_sampler_whose_epochs_differ_in_length_is_refused() -> None:
    def growing(labels: np.ndarray, generator: np.random.Generator, progress: float) -> np.ndarray:
        return np.arange(30 + int(10 * progress))

    made = GlobalBatches(LABELS, growing, BATCH, 0, 0, 1, 3)
    assert len(list(made)) == 2
    made.set_epoch(1)
    with pytest.raises(ValueError, match="drew 35 pictures for epoch 1, not 30"):
        list(made)


class NumberedFaces:
    """A split whose pictures show their row number: three bytes of one pixel."""

    size = 1
    labels = FACES
    groups = np.arange(N)

    def image(self, row: int) -> np.ndarray:
        return np.array([[[0, row // 256, row % 256]]], dtype=np.uint8)


class FakeStore:
    classes = tuple("abcde")

    def split(self, _: str) -> NumberedFaces:
        return NumberedFaces()


class Recorder(LightningModule):
    """Writes down the rows of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.rows: dict[int, list[int]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        pixels = batch[0][:, :, 0, 0].long()
        self.rows.setdefault(self.current_epoch, []).extend((pixels[:, 1] * 256 + pixels[:, 2]).tolist())
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def fit(stop: int, checkpoint: Path, resume: Path | None = None) -> dict[int, list[int]]:
    """The rows of each epoch of a fit of four, stopped after ``stop``."""
    data = FaceDataModule(
        FakeStore(),  # type: ignore[arg-type]
        BatchOptions(batch_size=BATCH, minival=0.2, split_seed=0, workers=0),
        draw=drawer("sampler=progressive"),
        augment=None,
        seed=4,
    )
    module = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=4,
        callbacks=[StopAfter(stop)],
        use_distributed_sampler=False,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    trainer.save_checkpoint(checkpoint)
    return module.rows


def test_a_resumed_fit_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    whole = fit(4, tmp_path / "whole.ckpt")
    first = fit(2, tmp_path / "half.ckpt")
    rest = fit(4, tmp_path / "end.ckpt", resume=tmp_path / "half.ckpt")
    assert (sorted(whole), sorted(first), sorted(rest)) == ([0, 1, 2, 3], [0, 1], [2, 3])
    assert first | rest == whole
    times = np.array([np.bincount(FACES[rows], minlength=C) for rows in whole.values()])
    assert (np.diff(times[:, 0]) < 0).all()  # fewer of the largest class, epoch by epoch
    assert np.ptp(times[3]) <= BATCH  # balanced in the end, but for those left out


def test_a_picture_that_is_shown_again_in_an_epoch_knows_how_often_it_was() -> None:
    """So that its augmentation differs from showing to showing."""
    seen: Counter[int] = Counter()
    made = GlobalBatches(np.array([0] * 40 + [1] * 3), balanced, 6, 0, 0, 1)
    for pick in [pick for batch in made for pick in batch]:
        assert pick.showing == seen[pick.picture]
        seen[pick.picture] += 1
    assert max(seen.values()) >= 6

"""Runs that are the same experiment in other words are found; runs that are not are left alone."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from fer_lightning.config.compose import Composer
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.sweeps import same_experiment
from fer_lightning.sweeps.same_experiment import Distinct, Objective, objective

STATS = ClassStats(EMOTIONS, AFFECTNET_TRAIN_COUNTS)
FROZEN = "neck=identity stage=feature_extraction"
AS_IS = "class_weights.normalise=as_is"
compose = Composer()


def of(words: str) -> Objective:
    return objective(compose(words.split()), {"faces": "some"}, STATS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class_weights=min_over_count", "class_weights=inverse"),
        ("loss=cluster class_weights=min_over_count", "loss=cluster class_weights=median_frequency"),
        ("class_weights=power class_weights.gamma=1.0", "class_weights=inverse"),
        ("class_weights=power", "class_weights=sqrt_inverse"),
        ("class_weights=power class_weights.gamma=0.0", "class_weights=none"),
        ("class_weights=inverse class_weights.from_epoch=6", "class_weights=none"),
        ("loss=balanced_softmax", "loss=logit_adjusted"),
        ("loss=focal loss.gamma=0.0", "loss=softmax"),
        ("loss=cluster loss.weight=0.0", "loss=softmax"),
        ("loss=arcface loss.margin=0.0 loss.scale=5.0", "loss=ldam loss.max_margin=0.0 loss.scale=5.0"),
        (f"loss=center {FROZEN}", f"loss=softmax {FROZEN}"),
        ("loss=softmax trainer.threads=1", "loss=softmax data.workers=1"),
    ],
)
def test_the_same_experiment_in_other_words_is_found(one: str, other: str) -> None:
    assert of(one).factor_to(of(other)) == pytest.approx(1, abs=1e-5)
    assert of(other).factor_to(of(one)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [  # 0.104293 is sum_k p_k N_min / N_k
        (f"class_weights=inverse {AS_IS}", f"class_weights=min_over_count {AS_IS}", 0.104293),
        (f"class_weights=min_over_count {AS_IS}", "class_weights=min_over_count", 1 / 0.104293),
    ],
)
def test_the_same_experiment_up_to_a_constant_is_found(one: str, other: str, factor: float) -> None:
    assert of(one).factor_to(of(other)) == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("loss=softmax", "loss=focal"),
        ("loss=softmax", "loss=softmax class_weights=sqrt_inverse"),
        ("loss=softmax", "loss=softmax loss.label_smoothing=0.01"),
        ("loss=center", "loss=softmax"),
        ("loss=center", "loss=center loss.weight=0.02"),
        ("loss=center", "loss=center loss.center_rate=0.4"),
        ("loss=center", "loss=center loss.center_update=exact"),
        ("loss=island", "loss=center"),
        ("loss=cluster", "loss=contrastive_center"),
        ("loss=cluster", "loss=cluster loss.delta=2.0"),
        ("loss=logit_adjusted", "loss=logit_adjusted loss.tau=1.1"),
        ("class_weights=inverse", "class_weights=inverse class_weights.from_epoch=2"),
        ("loss=softmax", "loss=softmax seed=1"),
        ("loss=softmax", "loss=softmax optimizer.lr=0.5"),
        ("loss=softmax", "loss=softmax sampler=balanced"),
        # a first stage with class weights of its own, before a second one without any difference
        ("class_weights=inverse class_weights.from_epoch=3", "class_weights=inverse"),
    ],
)
def test_another_experiment_is_not_taken_for_the_same(one: str, other: str) -> None:
    assert of(one).factor_to(of(other)) is None


def test_other_faces_make_another_experiment() -> None:
    config = compose([])
    assert objective(config, {"faces": "a"}, STATS).factor_to(objective(config, {"faces": "b"}, STATS)) is None


def test_runs_in_which_nothing_is_trained_are_the_same() -> None:
    nothing = Objective("rest", torch.zeros(1, dtype=torch.float64))
    assert nothing.factor_to(nothing) == 1
    assert Distinct[str]().add("a", nothing) is None


def first_same(runs: list[Objective]) -> list[tuple[int, float] | None]:
    """For each run the first earlier one that is the same, or else the same but for a factor, from all pairs."""
    found: list[tuple[int, float] | None] = []
    for place, own in enumerate(runs):
        factors = [(k, other.factor_to(own)) for k, other in enumerate(runs[:place])]
        same = [(k, factor) for k, factor in factors if factor is not None]
        found.append(min(same, key=lambda pair: pair[1] != 1, default=None))
    return found


def test_runs_that_are_the_same_are_found_as_from_all_pairs() -> None:
    losses = ("softmax", "focal loss.gamma=0.0", "center", "center loss.weight=0.0")
    weights = ("inverse", "min_over_count", "median_frequency")
    runs = [
        objective(compose(f"loss={a} class_weights={b} {c} seed={d} stage=fine_tuning".split()), {}, STATS)
        for a, b, c, d in product(losses, weights, (AS_IS, ""), (0, 1))
    ]
    distinct: Distinct[int] = Distinct()
    found = [distinct.add(place, run) for place, run in enumerate(runs)]
    expected = first_same(runs)
    assert found == expected
    factors = [pair[1] for pair in expected if pair]
    assert len(factors) > 20
    assert len({round(factor, 6) for factor in factors}) > 2


def test_a_run_that_is_another_one_is_not_another_ones_factor() -> None:
    draw = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distinct: Distinct[str] = Distinct()
    assert distinct.add("one", Objective("rest", draw)) is None
    assert distinct.add("half", Objective("rest", draw / 2)) == ("one", 0.5)
    assert distinct.add("half again", Objective("rest", draw / 2)) == ("half", 1)
    assert distinct.add("against", Objective("rest", -draw)) == ("one", -1)
    assert distinct.add("elsewhere", Objective("another", draw)) is None
    assert distinct.add("near", Objective("rest", draw + 1e-3)) is None


def test_runs_with_other_seeds_are_compared_by_the_same_gradients() -> None:
    before = same_experiment._gradients.cache_info().misses
    runs = [of(f"loss=focal loss.gamma=1.75 seed={seed} optimizer.lr=0.0{seed}1") for seed in range(5)]
    assert same_experiment._gradients.cache_info().misses - before <= 2  # a softmax stage, and the run's
    assert all(torch.equal(run.gradients, runs[0].gradients) for run in runs)
    assert len({run.rest for run in runs}) == 5


@pytest.mark.parametrize(
    "word", ["loss.gamma=1.5", "class_weights=inverse", "stage.epochs=5", "neck=identity stage=feature_extraction"]
)
def test_what_is_remembered_is_not_taken_for_another_runs(word: str) -> None:
    base, other = of("loss=focal"), of(f"loss=focal {word}")
    assert base.factor_to(other) is None
    same_experiment._gradients.cache_clear()
    assert torch.equal(of(f"loss=focal {word}").gradients, other.gradients)

"""Cells that are the same experiment in other words are found; cells that are not are left alone."""

import pytest

from fer_lightning.config import compose
from fer_lightning.contracts import ClassStats
from fer_lightning.labels import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.objective import Objective, objective

STATS = ClassStats(EMOTIONS, AFFECTNET_TRAIN_COUNTS)
FROZEN = "neck=identity stage=feature_extraction"
AS_IS = "class_weights.normalise=as_is"


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

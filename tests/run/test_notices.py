"""A run that cannot do what it seems to do says so, and only such a run."""

from typing import Any

import numpy as np
import pytest
from torch import nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.data.samplers import Draw, balanced, shown, shuffle
from fer_lightning.losses.affinity import AffinityHead
from fer_lightning.losses.balanced_softmax import BalancedSoftmaxHead
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.island import IslandHead
from fer_lightning.losses.ldam import LDAMHead
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.neck import Identity, LinearPReLU
from fer_lightning.run.notices import head_notices, imbalance_notices, picture_notices
from fer_lightning.training import class_weights
from fer_lightning.training.stage import Stage

STATS = ClassStats(("a", "b"), (5, 5))
AFFECTNET = ClassStats(EMOTIONS, AFFECTNET_TRAIN_COUNTS)


def told(head: type[SoftmaxHead], neck: type[nn.Module], freeze: str | int, **more: Any) -> list[str]:
    stage = Stage(1, pretrained=True, freeze=freeze, batch_norm="with_block", loss="run", lr_scale=1.0)
    made = head(4 if neck is Identity else 512, STATS, **more)
    return list(head_notices(neck(4), made, stage))


@pytest.mark.parametrize("head", [CenterHead, IslandHead])
def test_centers_over_nothing_that_is_trained_are_a_notice(head: type[SoftmaxHead]) -> None:
    (text,) = told(head, Identity, "all")
    assert head.__name__ in text
    assert "no-op" in text
    assert "neck=linear512_prelu" in text


@pytest.mark.parametrize("neck", [Identity, LinearPReLU])
@pytest.mark.parametrize("freeze", ["all", -1, "none"])
def test_softmax_needs_no_notice(neck: type[nn.Module], freeze: str | int) -> None:
    assert told(SoftmaxHead, neck, freeze) == []


@pytest.mark.parametrize("head", [CenterHead, IslandHead])
@pytest.mark.parametrize(("neck", "freeze"), [(LinearPReLU, "all"), (Identity, -1), (Identity, "none")])
def test_centers_over_something_that_is_trained_need_no_notice(
    head: type[SoftmaxHead], neck: type[nn.Module], freeze: str | int
) -> None:
    assert told(head, neck, freeze) == []


@pytest.mark.parametrize("head", [ClusterHead, AffinityHead])
@pytest.mark.parametrize(("update", "notices"), [("running", 1), ("exact", 0), ("gradient", 0)])
def test_running_centers_that_leave_out_the_push_are_a_notice(
    head: type[SoftmaxHead], update: str, notices: int
) -> None:
    texts = told(head, LinearPReLU, "all", center_update=update)
    assert len(texts) == notices
    assert all("nothing pushes classes apart" in text for text in texts)


def imbalance(
    scheme: str = "none",
    sampler: Draw = shuffle,
    from_epoch: int = 0,
    head: type[SoftmaxHead] = SoftmaxHead,
    **own: Any,
) -> list[str]:
    """What is told on AffectNet's class proportions, in a run of ten epochs."""
    labels = np.repeat(np.arange(8), [n // 50 for n in AFFECTNET.counts])
    texts = imbalance_notices(
        head(4, AFFECTNET),
        AFFECTNET,
        scheme=scheme,
        weights=getattr(class_weights, scheme)(AFFECTNET.counts, **own),
        from_epoch=from_epoch,
        epochs=10,
        sampler=sampler.__name__,
        shown=shown(labels, sampler, 0.0),
    )
    return list(texts)


@pytest.mark.parametrize("scheme", ["none", "inverse", "sqrt_inverse", "effective_number"])
@pytest.mark.parametrize("head", [SoftmaxHead, CenterHead, LDAMHead])
def test_one_correction_needs_no_notice(scheme: str, head: type[SoftmaxHead]) -> None:
    assert imbalance(scheme, head=head) == []


def test_weights_that_are_all_but_equal_are_a_notice() -> None:
    """On AffectNet effective numbers with beta 0.999 have a largest over smallest weight of 1.02."""
    (text,) = imbalance("effective_number", beta=0.999)
    assert "class_weights=effective_number is a no-op" in text
    assert "1.02" in text


def test_weights_that_start_after_the_end_are_a_notice() -> None:
    (text,) = imbalance("inverse", from_epoch=10)
    assert "epoch 10" in text
    assert "class_weights.from_epoch" in text
    assert imbalance("inverse", from_epoch=9) == []


def test_a_sampler_tells_how_often_it_shows_an_image() -> None:
    (text,) = imbalance(sampler=balanced)
    expected = sum(AFFECTNET.counts) / 8 / AFFECTNET.counts[-1]
    assert f"contempt {expected:.2g}" in text
    assert "happy 0.27" in text


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ({"scheme": "inverse", "sampler": balanced}, ("class_weights=inverse", "sampler=balanced")),
        ({"scheme": "inverse", "head": BalancedSoftmaxHead}, ("class_weights=inverse", "BalancedSoftmaxHead")),
        ({"sampler": balanced, "head": BalancedSoftmaxHead}, ("sampler=balanced", "BalancedSoftmaxHead")),
    ],
)
def test_correcting_twice_is_a_notice(how: dict[str, Any], names: tuple[str, str]) -> None:
    text = imbalance(**how)[-1]
    assert "more than once" in text
    assert all(name in text for name in names)


def test_weights_that_do_nothing_do_not_correct() -> None:
    texts = imbalance("effective_number", beta=0.999, head=BalancedSoftmaxHead)
    assert not any("more than once" in text for text in texts)


@pytest.mark.parametrize(("input_size", "side", "cost"), [(224, 112, "4"), ([96, 48], 96, "0.5")])
def test_pictures_that_the_backbone_resizes_are_a_notice(input_size: Any, side: int, cost: str) -> None:
    backbone = TimmBackbone("test_resnet", mean=[0.5] * 3, std=[0.5] * 3, input_size=input_size)
    (text,) = picture_notices(backbone, side)
    assert f"about {cost} times the computation" in text
    assert f"backbone.input_size={side}" in text


@pytest.mark.parametrize("input_size", [None, 112])
def test_pictures_that_are_taken_as_they_are_need_no_notice(input_size: int | None) -> None:
    backbone = TimmBackbone("test_resnet", mean=[0.5] * 3, std=[0.5] * 3, input_size=input_size)
    assert list(picture_notices(backbone, 112)) == []

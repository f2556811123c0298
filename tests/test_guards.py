"""A run that cannot do what it seems to do says so, and only such a run."""

import pytest
from torch import nn

from fer_lightning.contracts import ClassStats
from fer_lightning.guards import notices
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.neck import Identity, LinearPReLU
from fer_lightning.models.network import Network
from fer_lightning.stages import Fit

STATS = ClassStats(("a", "b"), (5, 5))


def told(head: type[SoftmaxHead], neck: type[nn.Module], train_blocks: int | None) -> list[str]:
    fit = Fit(epochs=1, pretrained=True, train_blocks=train_blocks, loss="cell", lr_scale=1.0)
    return notices(Network(nn.Identity(), neck(4), head(4, STATS) if neck is Identity else head(512, STATS)), fit)


@pytest.mark.parametrize("head", [CenterHead, ClusterHead])
def test_centers_over_nothing_that_is_trained_are_a_notice(head: type[SoftmaxHead]) -> None:
    (text,) = told(head, Identity, 0)
    assert head.__name__ in text
    assert "no-op" in text
    assert "neck=linear512_prelu" in text


@pytest.mark.parametrize("neck", [Identity, LinearPReLU])
@pytest.mark.parametrize("train_blocks", [0, 1, None])
def test_softmax_needs_no_notice(neck: type[nn.Module], train_blocks: int | None) -> None:
    assert told(SoftmaxHead, neck, train_blocks) == []


@pytest.mark.parametrize("head", [CenterHead, ClusterHead])
@pytest.mark.parametrize(("neck", "train_blocks"), [(LinearPReLU, 0), (Identity, 1), (Identity, None)])
def test_centers_over_something_that_is_trained_need_no_notice(
    head: type[SoftmaxHead], neck: type[nn.Module], train_blocks: int | None
) -> None:
    assert told(head, neck, train_blocks) == []

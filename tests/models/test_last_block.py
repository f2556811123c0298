"""A backbone in two parts computes what the whole computes, and what cannot be split is told in one line."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.backbone import Backbone, OwnBackbone, TimmBackbone
from fer_lightning.models.freeze import BatchNorm, freeze, keep_frozen_in_eval
from fer_lightning.models.last_block import TailNetwork, require_split, split
from fer_lightning.models.neck import Identity
from fer_lightning.models.network import Network

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet10t": {},
    "legacy_seresnet18": {},
    "mobilenetv1_100": {},
    "mobilenetv3_small_050": {"drop_rate": 0.5},  # its last block is a layer behind the pooling
    "vit_tiny_patch16_224": {"img_size": 48, "drop_path_rate": 0.5},
    "mobilevit_xxs": {},  # has control flow within its blocks
}
"""timm's networks with their arguments, among them what drops at random in the last block."""


def pictures(count: int = 2, side: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def frozen(backbone: Backbone, blocks: str | int = -1, batch_norm: BatchNorm = "with_block") -> Backbone:
    freeze(backbone, blocks, batch_norm)
    return backbone


def timm_backbone(name: str, **arguments: Any) -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(name, arguments=arguments, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))


def refusal(backbone: Backbone, blocks: str | int = -1) -> str:
    with pytest.raises(UserError) as caught:
        require_split(frozen(backbone, blocks), blocks, pictures())
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("cached=false")
    return str(caught.value)


class Small(nn.Module):
    """A network of one's own with two blocks, of which the second is left to a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 4
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.drop = nn.Dropout(0.0)
        self.last = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        return self.tail(self.drop(self.first(images.to(self.first.weight.dtype) / 255)), images)

    def tail(self, x: Tensor, images: Tensor) -> Tensor:
        return nn.functional.dropout(self.last(x).mean((2, 3)), 0.5, self.training)


def own(network: nn.Module) -> OwnBackbone:
    return OwnBackbone(network, {"class": "mine.Small", "source": "1234", "weights_hash": None})


@pytest.mark.parametrize("batch_norm", ["with_block", "never"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_tail_trains_the_backbone_as_the_whole_does(name: str, batch_norm: BatchNorm) -> None:
    """Gradients and BatchNorm's statistics, too."""
    backbone = frozen(timm_backbone(name, **NETWORKS[name]), -1, batch_norm)
    require_split(backbone, -1, pictures())
    images, whole = pictures(4), deepcopy(backbone)
    parts = split(backbone, -1)
    with torch.no_grad():
        activations = parts.front.eval()(images)
    stats = ClassStats(("a", "b"), (2, 2))
    networks = [
        Network(one, Identity(one.num_features), SoftmaxHead(one.num_features, stats)) for one in (whole, backbone)
    ]
    tail = TailNetwork(networks[1], parts.tails)
    assert tail.state_dict().keys() == networks[0].state_dict().keys()
    for network, given in ((networks[0], images), (tail, activations)):
        keep_frozen_in_eval(network.train())
        torch.manual_seed(5)
        network.embed(given).square().sum().backward()
    for (key, one), other in zip(whole.named_parameters(), backbone.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None) == (not one.requires_grad), key
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-6)
    for one, other in zip(whole.buffers(), backbone.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_network_of_ones_own_is_split_with_its_randomness_in_the_tail() -> None:
    backbone = frozen(own(Small()))
    require_split(backbone, -1, pictures())
    parts = split(backbone, -1)
    activations = parts.front.eval()(pictures())
    assert activations.shape[1] == 4
    embeddings = parts.tails[True](activations)
    assert (embeddings == 0).any()
    assert (parts.tails[False](activations) != 0).all()


@pytest.mark.parametrize(("blocks", "trained"), [("none", "first, last"), (-2, "first, last")])
def test_more_than_the_last_block_is_refused(blocks: str | int, trained: str) -> None:
    assert f"freeze={blocks} trains {trained}; set freeze=-1" in refusal(own(Small()), blocks)


def test_the_name_of_the_block_below_is_as_good_as_a_number() -> None:
    require_split(frozen(own(Small()), "first"), "first", pictures())


def test_a_single_block_is_refused() -> None:
    class One(nn.Module):
        num_features = 3

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, images: Tensor) -> Tensor:
            return images.float().mean((2, 3)) * self.scale

    assert "set freeze=-1" in refusal(own(One()))


class Skipped(Small):
    def tail(self, x: Tensor, images: Tensor) -> Tensor:
        return super().tail(x, images) + images.float().mean()


class Flow(Small):
    def tail(self, x: Tensor, images: Tensor) -> Tensor:
        return super().tail(x if x.sum() > 0 else -x, images)


class Unused(Small):
    def tail(self, x: Tensor, images: Tensor) -> Tensor:
        return x.mean((2, 3))


class Random(Small):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)


class Transposed(Small):
    def tail(self, x: Tensor, images: Tensor) -> Tensor:
        return self.last(x.flatten(0, 0).mean(0, keepdim=True)).mean((2, 3)).expand(2, 4)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Skipped, "what enters its last block is not one tensor of the blocks before"),
        (Flow, "torch.fx cannot trace it (TraceError: symbolically traced variables cannot be used as inputs"),
        (Unused, "what enters its last block is not one tensor of the blocks before ()"),
        (Random, "its frozen part computes at random, or from the other pictures of a batch"),
        (Transposed, "what enters its last block is not one tensor with a row for each picture"),
    ],
)
def test_what_cannot_be_split_is_one_line_that_names_the_network(network: type[Small], said: str) -> None:
    line = refusal(own(network()))
    assert line.startswith(f"stage: cached=true cannot split mine.Small: {said}")

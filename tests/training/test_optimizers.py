"""Optimizers: what is in which group, what decays, and how fast each part learns."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from fer_lightning.config.compose import compose
from fer_lightning.core.contracts import ClassStats
from fer_lightning.losses.center import CenterHead
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.freeze import freeze
from fer_lightning.models.neck import LinearPReLU
from fer_lightning.models.network import Network
from fer_lightning.run.build import recipe as build_recipe
from fer_lightning.training.optimizers import Recipe, adamw, sgd
from fer_lightning.training.stage import Stage

STATS = ClassStats(("a", "b"), (5, 5))
MAKERS = {"adamw": adamw, "sgd": partial(sgd, momentum=0.9)}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
Make = Callable[..., torch.optim.Optimizer]


def network(name: str = "resnet18", frozen: str | int = "none", **arguments: Any) -> Network:
    torch.manual_seed(0)
    shape = arguments or {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    backbone = TimmBackbone(name, arguments=shape, mean=(0.5,) * 3, std=(0.5,) * 3)
    freeze(backbone, frozen, "with_block")
    head = CenterHead(8, STATS, weight=0.1, center_update="gradient", center_rate=0.1)
    return Network(backbone, LinearPReLU(backbone.num_features, 8), head)


def groups(make: Make, made: Network, **more: Any) -> dict[str, dict[str, Any]]:
    """What the optimizer was given, by parameter name."""
    optimizer, _ = Recipe(partial(make, lr=0.2, weight_decay=0.03, fused=False), **more).build(made, 10)
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    found = [(names[id(p)], group) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


@both
def test_weight_decay_is_for_matrices_and_kernels_alone(make: Make) -> None:
    made = network()
    found = groups(make, made)
    for name, parameter in made.named_parameters():
        if name != "head.centers":
            assert found[name]["weight_decay"] == (0.03 if parameter.ndim > 1 else 0.0), name
    assert {found[name]["weight_decay"] for name in found if "bn" in name or "bias" in name} == {0.0}
    assert {found[name]["weight_decay"] for name in found if "conv" in name} == {0.03}


def test_what_timm_spares_does_not_decay() -> None:
    made = network("vit_tiny_patch16_224", img_size=32, depth=1)
    found = groups(adamw, made)
    assert found["backbone.network.pos_embed"]["weight_decay"] == 0.0
    assert found["backbone.network.blocks.0.attn.qkv.weight"]["weight_decay"] == 0.03


@both
def test_centers_and_frozen_parameters_are_left_out(make: Make) -> None:
    made = network(frozen="layer3")
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert set(groups(make, made)) == trained - {"head.centers"}
    assert any("layer4" in name for name in trained)
    assert not any("layer3" in name for name in trained)


@both
def test_each_part_has_a_group_and_a_rate_of_its_own(make: Make) -> None:
    found = groups(make, network(), part_lr={"backbone": 0.1, "neck": 1.0, "head": 2.0})
    for name, group in found.items():
        scale = {"backbone": 0.1, "neck": 1.0, "head": 2.0}[name.partition(".")[0]]
        assert group["lr"] == pytest.approx(0.2 * scale)
        assert group["name"].startswith(name.partition(".")[0])


@both
def test_a_block_learns_slower_than_the_one_above(make: Make) -> None:
    part_lr = {"backbone": 0.5, "neck": 1.0, "head": 1.0}
    found = groups(make, network(), part_lr=part_lr, layer_decay=0.7)
    blocks = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    for name, group in found.items():
        part, _, rest = name.partition(".")
        if part == "backbone":
            assert group["lr"] == pytest.approx(0.2 * 0.5 * 0.7 ** blocks[rest.split(".")[1]]), name
        else:
            assert group["lr"] == pytest.approx(0.2), name
    assert found["backbone.network.layer1.0.conv1.weight"]["name"] == "backbone layer1"


@both
def test_the_schedule_scales_every_group(make: Make) -> None:
    part_lr = {"backbone": 0.1, "neck": 1.0, "head": 1.0}
    recipe = Recipe(
        partial(make, lr=0.2, weight_decay=0.0, fused=False), lambda progress: 1 - progress, part_lr=part_lr
    )
    optimizer, schedule = recipe.build(network(), 11)
    for step in range(6):
        if step:
            optimizer.step()
            schedule.step()
        share = 1 - max(0, step - 1) / 10  # the first step is the warm-up
        rates = {group["name"].partition(" ")[0].strip(","): group["lr"] for group in optimizer.param_groups}
        assert rates == pytest.approx({"backbone": 0.02 * share, "neck": 0.2 * share, "head": 0.2 * share})


@both
@pytest.mark.parametrize("fused", [True, False])
def test_fused_or_not_a_step_is_the_same(make: Make, fused: bool) -> None:
    found = []
    for kernel in (fused, False):
        made = network()
        optimizer, _ = Recipe(partial(make, lr=0.2, weight_decay=0.03, fused=kernel)).build(made, 10)
        for parameter in made.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        found.append([parameter.detach().clone() for parameter in made.parameters()])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"part_lr": {"backbone": 1.0, "neck": 1.0}}, "part_lr"),
        ({"part_lr": {"backbone": 1.0, "neck": 1.0, "head": -1.0}}, "part_lr"),
        ({"layer_decay": 1.5}, "layer_decay"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe(adamw, **more)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_stage_scales_the_learning_rate(scale: float) -> None:
    config = compose(["optimizer=sgd", "optimizer.lr=0.5", "schedule.warmup=0.0", "optimizer.part_lr.neck=0.5"])
    stage = Stage(1, pretrained=True, freeze="none", batch_norm="with_block", loss="configured", lr_scale=scale)
    optimizer, _ = build_recipe(config, stage).build(network(), 10)
    rates = {group["name"].partition(",")[0]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"backbone": 0.5 * scale, "neck": 0.25 * scale, "head": 0.5 * scale})
    assert config["optimizer"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("freeze", "cached", "trained_from"),
    [
        ("all", None, "embeddings"),
        ("all", True, "embeddings"),
        ("all", False, "pictures"),
        (-1, None, "pictures"),
        (-1, True, "activations"),
        (-1, False, "pictures"),
    ],
)
def test_what_a_stage_is_trained_from(freeze: str | int, cached: bool | None, trained_from: str) -> None:
    stage = Stage(
        *(1, True, freeze, "with_block", "configured", 1.0),
        cached=cached,
    )
    ways = {
        "embeddings": stage.from_embeddings,
        "activations": stage.from_activations,
        "pictures": stage.through_pictures,
    }
    assert [name for name, taken in ways.items() if taken] == [trained_from]
    assert stage.augments_anew == (trained_from == "pictures" and freeze == -1)


def test_own_modules_have_one_group_a_part() -> None:
    made = Network(nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 2))
    assert {group["name"] for group in groups(adamw, made).values()} == {
        "backbone",
        "backbone, no decay",
        "neck, no decay",
        "head",
        "head, no decay",
    }

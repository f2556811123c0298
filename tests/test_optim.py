"""Optimizers: what is decayed, and the learning rate of every step."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from fer_lightning.build import optimizer as build_optimizer
from fer_lightning.config import compose
from fer_lightning.optim import Optimization, adamw, sgd
from fer_lightning.stages import Fit

Make = Callable[..., Optimization]
OPTIMIZERS: dict[str, Make] = {"adamw": adamw, "sgd": partial(sgd, momentum=0.9)}
both = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5), nn.PReLU(5))


def settings(**more: Any) -> dict[str, Any]:
    return {"lr": 0.2, "weight_decay": 0.03, "schedule": "cosine", "warmup": 0.0, **more}


def rates(make: Make, steps: int, **more: Any) -> list[float]:
    """The learning rate that each of ``steps`` steps is taken with, and the one after the last."""
    optimizer, schedule = make([nn.Parameter(torch.ones(2, 2))], steps, **settings(**more))
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


@both
def test_weight_decay_is_for_matrices_and_kernels_alone(make: Make) -> None:
    made = network()
    optimizer, _ = make(made.parameters(), 10, **settings())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(made.parameters())) == 7
    for name, parameter in made.named_parameters():
        assert decay[id(parameter)] == (0.03 if name in ("0.weight", "3.weight") else 0.0), name


@both
def test_a_bias_without_gradient_stays_and_a_matrix_decays(make: Make) -> None:
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer, _ = make([matrix, bias], 10, **settings(schedule="constant"))
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(bias, torch.ones(2))
    torch.testing.assert_close(matrix.data, torch.full((2, 2), 1 - 0.2 * 0.03))


@both
def test_frozen_parameters_are_left_out(make: Make) -> None:
    made = network()
    made[0].requires_grad_(False)
    optimizer, _ = make(made.parameters(), 10, **settings())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in made[1:].parameters()}


@both
def test_warm_up_rises_in_equal_steps_to_the_full_rate(make: Make) -> None:
    found = rates(make, 20, warmup=0.25)
    assert found[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])


@both
def test_cosine_falls_from_the_full_rate_through_half_of_it_to_zero(make: Make) -> None:
    found = rates(make, 20, warmup=0.2)
    assert found[4] == pytest.approx(0.2)
    assert found[12] == pytest.approx(0.1)
    assert found[20] == pytest.approx(0.0, abs=1e-12)
    assert found[19] == pytest.approx(0.1 * (1 + math.cos(math.pi * 15 / 16)))
    assert all(later < earlier for earlier, later in pairwise(found[4:]))


@both
def test_constant_stays_at_the_full_rate(make: Make) -> None:
    assert rates(make, 10, schedule="constant", warmup=0.2)[1:] == pytest.approx([0.2] * 10)


@both
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_single_step_is_taken_with_the_full_rate(make: Make, warmup: float) -> None:
    assert rates(make, 1, warmup=warmup)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_stage_scales_the_learning_rate(scale: float) -> None:
    config = compose(["optimizer=sgd", "optimizer.lr=0.5", "optimizer.warmup=0.0"])
    fit = Fit(epochs=1, pretrained=True, train_blocks=0, loss="cell", lr_scale=scale)
    optimizer, _ = build_optimizer(config, fit)([nn.Parameter(torch.ones(2, 2))], 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * scale)
    assert config["optimizer"]["lr"] == 0.5

"""Schedules: the share of the learning rate at every step."""

import math
from itertools import pairwise

import pytest
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments, target
from fer_lightning.config.shipped import groups
from fer_lightning.training.schedules import Schedule, constant, cosine, exponential, over_steps, step


def rates(schedule: Schedule, steps: int, warmup: float = 0.0) -> list[float]:
    """The shares of ``steps`` steps, and the one after the last."""
    factor = over_steps(schedule, warmup, steps)
    return [factor(number) for number in range(steps + 1)]


@pytest.mark.parametrize("name", groups()["schedule"])
def test_every_schedule_begins_at_the_full_rate_and_never_rises(name: str) -> None:
    node = compose([f"schedule={name}"])["schedule"]
    numbers = arguments(node)
    warmup = numbers.pop("warmup")
    found = rates(lambda progress: target("schedule", node)(progress, **numbers), 100, warmup)
    rise = round(warmup * 100)
    assert found[:rise] == pytest.approx([(k + 1) / rise for k in range(rise)])
    assert found[rise] == 1.0
    assert all(0 <= later <= earlier for earlier, later in pairwise(found[rise:]))


def test_cosine_falls_from_the_full_rate_through_half_of_it_to_zero() -> None:
    found = rates(cosine, 20, warmup=0.2)
    assert found[4] == 1.0
    assert found[12] == pytest.approx(0.5)
    assert found[20] == pytest.approx(0.0, abs=1e-12)
    assert found[19] == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_constant_stays_at_the_full_rate() -> None:
    assert rates(constant, 10, warmup=0.2) == [0.5, *[1.0] * 10]


def test_step_is_torchs_multi_step() -> None:
    optimizer = SGD([nn.Parameter()], lr=1.0)
    reference = MultiStepLR(optimizer, [50, 75], gamma=0.1)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    found = rates(lambda progress: step(progress, milestones=[0.5, 0.75], gamma=0.1), 101)
    assert found[1:101] == pytest.approx(expected)  # the first of our steps is the warm-up


def test_exponential_is_torchs_and_ends_where_it_is_told_to() -> None:
    optimizer = SGD([nn.Parameter()], lr=1.0)
    reference = ExponentialLR(optimizer, gamma=0.01 ** (1 / 100))
    found = rates(lambda progress: exponential(progress, last=0.01), 101)
    for number in range(100):
        assert found[number + 1] == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert found[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_single_step_is_taken_with_the_full_rate(warmup: float) -> None:
    assert rates(cosine, 1, warmup)[0] == 1.0


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="milestones"):
        step(0.0, milestones=[1.5], gamma=0.1)
    with pytest.raises(ValueError, match="gamma"):
        step(0.0, milestones=[0.5], gamma=0.0)
    with pytest.raises(ValueError, match="last"):
        exponential(0.0, last=0.0)
    with pytest.raises(ValueError, match="warmup"):
        over_steps(constant, warmup=1.5, steps=10)

"""How the learning rate goes over a stage's steps.

A schedule is a function (progress, ...) to the share of the full rate, and a YAML in conf/schedule. Progress goes
from 0 after the warm-up to 1 at the end. In the warm-up the rate rises to the full one in equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydantic import validate_call

from fer_lightning.core.ranges import InnerShare, Positive, Share

Schedule = Callable[[float], float]
"""Progress to the share of the full rate."""


def constant(progress: float) -> float:
    """The full rate."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a cosine to zero (Loshchilov & Hutter, ICLR 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


@validate_call
def step(progress: float, *, milestones: Sequence[InnerShare], gamma: Positive) -> float:
    """Times ``gamma`` at every milestone.

    Args:
        progress: from 0 to 1.
        milestones: each in (0, 1).
        gamma: factor at each.

    Raises:
        ValueError: a milestone is outside (0, 1), or gamma is not positive.
    """
    return float(gamma ** sum(progress >= milestone for milestone in milestones))


@validate_call
def exponential(progress: float, *, last: Positive) -> float:
    """From 1 to ``last`` by the same factor each step.

    Args:
        progress: from 0 to 1.
        last: share of the full rate at the end.

    Raises:
        ValueError: last is not positive.
    """
    return float(last**progress)


@validate_call
def over_steps(schedule: Schedule, warmup: Share, steps: int) -> Callable[[int], float]:
    """The share of the full rate at each step, counted from 0.

    Args:
        schedule: after the warm-up.
        warmup: its share of the steps.
        steps: of the stage.

    Raises:
        ValueError: warmup is outside [0, 1].
    """
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        return (step + 1) / rise if step < rise else schedule((step - rise) / max(1, steps - rise))

    return factor

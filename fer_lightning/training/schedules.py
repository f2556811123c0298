"""Schedules of the learning rate over the steps of a stage.

A schedule is a function of progress, with a YAML file in conf/schedule, that returns a share of the full rate.
Progress goes from 0 after the warm-up to 1 at the end. In the warm-up the rate rises to it in equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydantic import validate_call

from fer_lightning.core.ranges import InnerShare, Positive, Share

Schedule = Callable[[float], float]
"""Function from progress to the share of the full rate."""


def constant(progress: float) -> float:
    """Return 1, the full rate."""
    return 1.0


def cosine(progress: float) -> float:
    """Return half a cosine, from 1 to 0 (Loshchilov & Hutter, ICLR 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


@validate_call
def step(progress: float, *, milestones: Sequence[InnerShare], gamma: Positive) -> float:
    """Return ``gamma`` to the power of the number of milestones that are passed.

    Args:
        progress: progress from 0 to 1.
        milestones: values of progress in (0, 1).
        gamma: factor of the rate at each milestone.

    Raises:
        ValueError: a milestone is outside (0, 1), or gamma is not positive.
    """
    return float(gamma ** sum(progress >= milestone for milestone in milestones))


@validate_call
def exponential(progress: float, *, last: Positive) -> float:
    """Return ``last`` to the power of progress: from 1 to ``last`` by the same factor in each step.

    Args:
        progress: progress from 0 to 1.
        last: share of the full rate at the end.

    Raises:
        ValueError: last is not positive.
    """
    return float(last**progress)


@validate_call
def over_steps(schedule: Schedule, warmup: Share, steps: int) -> Callable[[int], float]:
    """Return the function from a step, counted from 0, to its share of the full rate.

    Args:
        schedule: schedule after the warm-up.
        warmup: share of the steps in the warm-up.
        steps: number of steps of the stage.

    Raises:
        ValueError: warmup is outside [0, 1].
    """
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        return (step + 1) / rise if step < rise else schedule((step - rise) / max(1, steps - rise))

    return factor

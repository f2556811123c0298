"""Optimizers with their learning-rate schedule, by config."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["cosine", "constant"]
Optimization = tuple[Optimizer, LambdaLR]
BuildOptimizer = Callable[[Iterable[nn.Parameter], int], Optimization]


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, list[Tensor] | float]]:
    """Weight decay for matrices and kernels; none for biases, norms and PReLU slopes."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _scheduled(optimizer: Optimizer, schedule: Schedule, warmup: float, steps: int) -> Optimization:
    """Linear warm-up over the share ``warmup`` of all steps, then constant or a half cosine to zero."""
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return optimizer, LambdaLR(optimizer, factor)


def adamw(
    parameters: Iterable[nn.Parameter],
    steps: int,
    *,
    lr: float,
    weight_decay: float,
    schedule: Schedule,
    warmup: float,
) -> Optimization:
    """AdamW (Loshchilov & Hutter 2019) over the parameters that are trained.

    Args:
        parameters: the network's; frozen ones are left out.
        steps: how many the fit will take.
        lr: highest learning rate.
        weight_decay: of matrices and kernels.
        schedule: after the warm-up.
        warmup: share of the steps.
    """
    return _scheduled(AdamW(_groups(parameters, weight_decay), lr=lr), schedule, warmup, steps)


def sgd(
    parameters: Iterable[nn.Parameter],
    steps: int,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    schedule: Schedule,
    warmup: float,
) -> Optimization:
    """SGD with momentum over the parameters that are trained; arguments as for ``adamw``."""
    optimizer = SGD(_groups(parameters, weight_decay), lr=lr, momentum=momentum)
    return _scheduled(optimizer, schedule, warmup, steps)

"""Optimizers of groups of parameters, with schedule and weight averaging."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.core.ranges import InnerShare, NotNegative, Positive, Share, ShareBelowOne, UpToOne
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.network import Network
from fer_lightning.training.schedules import Schedule, constant, over_steps

PARTS = ("backbone", "neck", "head")

Group = dict[str, Any]
"""Group of parameters: ``name``, ``params``, ``lr_scale`` (factor of lr) and ``decays`` (has weight decay)."""


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule and weight averaging of a stage.

    Args:
        make: builds the optimizer from groups of parameters.
        schedule: schedule of the learning rate, see fer_lightning.training.schedules.
        warmup: share of the steps before the schedule.
        part_lr: factors of the learning rate for backbone, neck and head.
        layer_decay: factor of the learning rate from each block of the backbone to the block below, beginning with
            the last block (layer-wise learning-rate decay, as in ELECTRA, Clark et al., ICLR 2020, and BEiT).
        ema_decay: highest decay d of an exponential running mean of weights and buffers, which is validated and
            kept in place of the last ones; None: no averaging. The decay after step t is min(d, 1 - t^(-2/3)), the
            warm-up of timm's ModelEmaV3, so that a short stage does not keep the weights of its start.

    Raises:
        ValueError: a number is out of range.
    """

    make: Callable[[list[Group]], Optimizer]
    schedule: Schedule = constant
    warmup: Share = 0.0
    part_lr: Mapping[str, Positive] = field(default_factory=lambda: dict.fromkeys(PARTS, 1.0))
    layer_decay: UpToOne = 1.0
    ema_decay: InnerShare | None = None

    def __post_init__(self) -> None:
        if sorted(self.part_lr) != sorted(PARTS):
            raise ValueError(f"part_lr must give {', '.join(PARTS)} a number each, got {dict(self.part_lr)}")

    def build(self, network: Network, steps: int) -> tuple[Optimizer, LambdaLR]:
        """Build optimizer and schedule, by step, of all trained parameters but the centers."""
        optimizer = self.make(param_groups(network, self.part_lr, self.layer_decay))
        return optimizer, LambdaLR(optimizer, over_steps(self.schedule, self.warmup, steps))


def param_groups(network: Network, part_lr: Mapping[str, float], layer_decay: float) -> list[Group]:
    """Group the trained parameters but the centers by part (or block), learning rate and weight decay.

    Weights decay; biases, norms, PReLU slopes and the ``no_weight_decay`` of timm do not.
    """
    groups: dict[tuple[str, float, bool], Group] = {}
    for name, scale, parameter, decays in _trained(network, part_lr, layer_decay):
        title = name if decays else f"{name}, no decay"
        empty = {"name": title, "params": [], "lr_scale": scale, "decays": decays}
        groups.setdefault((name, scale, decays), empty)["params"].append(parameter)
    return [*groups.values()]


def _trained(
    network: Network, part_lr: Mapping[str, float], layer_decay: float
) -> Iterator[tuple[str, float, nn.Parameter, bool]]:
    """Yield every trained parameter but the centers as (group, lr_scale, parameter, decays)."""
    backbone = network.backbone
    blocks = backbone.blocks() if isinstance(backbone, Backbone) and layer_decay != 1 else {}
    depth = {parameter: (len(blocks) - k, block) for k, block in enumerate(blocks) for parameter in blocks[block]}
    no_decay: set[str] = getattr(getattr(backbone, "network", None), "no_weight_decay", set)()
    for part in PARTS:
        for name, parameter in getattr(network, part).named_parameters():
            if not parameter.requires_grad or (part == "head" and name == "centers"):
                continue
            above, block = depth.get(name, (0, "")) if part == "backbone" else (0, "")
            decays = parameter.ndim > 1 and not (part == "backbone" and name.removeprefix("network.") in no_decay)
            yield f"{part} {block}".strip(), part_lr[part] * layer_decay**above, parameter, decays


def _torch_groups(groups: list[Group], lr: float, weight_decay: float) -> list[Group]:
    """Return the groups with the keys ``lr`` and ``weight_decay`` that torch's optimizers read."""
    return [
        {
            "name": group["name"],
            "params": group["params"],
            "lr": lr * group["lr_scale"],
            "weight_decay": weight_decay if group["decays"] else 0.0,
        }
        for group in groups
    ]


def adamw(groups: list[Group], *, lr: Positive, weight_decay: NotNegative, fused: bool) -> Optimizer:
    """Build AdamW (Loshchilov & Hutter, ICLR 2019).

    Args:
        groups: groups from ``param_groups``.
        lr: highest learning rate.
        weight_decay: weight decay of the groups that decay.
        fused: whether to use torch's fused kernel, which is faster and differs in the last digits.
    """
    return AdamW(_torch_groups(groups, lr, weight_decay), lr=lr, fused=fused)


def sgd(
    groups: list[Group], *, lr: Positive, momentum: ShareBelowOne, weight_decay: NotNegative, fused: bool
) -> Optimizer:
    """Build SGD with momentum; arguments as for ``adamw``."""
    return SGD(_torch_groups(groups, lr, weight_decay), lr=lr, momentum=momentum, fused=fused)

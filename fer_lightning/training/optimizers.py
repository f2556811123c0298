"""How a stage is optimised: groups of parameters, the optimizer over them, its schedule, weight averaging."""

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
"""An optimizer's group: ``name``, ``params``, ``lr_scale`` (times lr) and ``decays`` (whether its weights do)."""


@dataclass(frozen=True)
class Recipe:
    """How a stage is optimised.

    Args:
        make: from groups to the optimizer.
        schedule: of the learning rate, see fer_lightning.training.schedules.
        warmup: share of the steps before it.
        part_lr: times the learning rate, for backbone, neck and head.
        layer_decay: the backbone's last block learns at this times its rate, the one below at its square, and so
            on (layer-wise learning-rate decay, as in ELECTRA, Clark et al., ICLR 2020, and BEiT); 1: all alike.
        ema_decay: of an exponential running mean of the weights, which then is what is validated and kept; None:
            there is none.

    Raises:
        ValueError: a number makes no sense.
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
        """Optimizer and schedule, by step, for what is trained of a network but its centers: they move by hand."""
        optimizer = self.make(param_groups(network, self.part_lr, self.layer_decay))
        return optimizer, LambdaLR(optimizer, over_steps(self.schedule, self.warmup, steps))


def param_groups(network: Network, part_lr: Mapping[str, float], layer_decay: float) -> list[Group]:
    """What is trained of a network but its centers, in groups of one part (or block), rate and weight decay.

    Weights decay; biases, norms, PReLU slopes and what timm names in ``no_weight_decay`` do not.
    """
    groups: dict[tuple[str, float, bool], Group] = {}
    for name, scale, parameter, decays in _trained(network, part_lr, layer_decay):
        key = (name, scale, decays)
        empty = {
            "name": name if decays else f"{name}, no decay",
            "params": [],
            "lr_scale": scale,
            "decays": decays,
        }
        groups.setdefault(key, empty)["params"].append(parameter)
    return [*groups.values()]


def _trained(
    network: Network, part_lr: Mapping[str, float], layer_decay: float
) -> Iterator[tuple[str, float, nn.Parameter, bool]]:
    """Every trained parameter with its group's name, its share of the learning rate, and whether it decays."""
    backbone = network.backbone
    blocks = backbone.blocks() if isinstance(backbone, Backbone) and layer_decay != 1 else {}
    depth = {parameter: (len(blocks) - k, block) for k, block in enumerate(blocks) for parameter in blocks[block]}
    spared: set[str] = getattr(getattr(backbone, "network", None), "no_weight_decay", set)()
    for part in PARTS:
        for name, parameter in getattr(network, part).named_parameters():
            if not parameter.requires_grad or (part == "head" and name == "centers"):
                continue
            above, block = depth.get(name, (0, "")) if part == "backbone" else (0, "")
            decays = parameter.ndim > 1 and not (part == "backbone" and name.removeprefix("network.") in spared)
            yield f"{part} {block}".strip(), part_lr[part] * layer_decay**above, parameter, decays


def _settled(groups: list[Group], lr: float, weight_decay: float) -> list[Group]:
    """The groups with the rates and weight decays that torch's optimizers look for."""
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
    """AdamW (Loshchilov & Hutter, ICLR 2019).

    Args:
        groups: of ``param_groups``.
        lr: highest learning rate.
        weight_decay: of what decays.
        fused: torch's fused kernel: faster, and other last digits.
    """
    return AdamW(_settled(groups, lr, weight_decay), lr=lr, fused=fused)


def sgd(
    groups: list[Group], *, lr: Positive, momentum: ShareBelowOne, weight_decay: NotNegative, fused: bool
) -> Optimizer:
    """SGD with momentum; arguments as for ``adamw``."""
    return SGD(_settled(groups, lr, weight_decay), lr=lr, momentum=momentum, fused=fused)

"""Builds the network that a card describes; a card names classes, and none outside fer_lightning is imported."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import nn

from fer_lightning import losses
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError, in_one_line
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models import neck as necks
from fer_lightning.models.backbone import Backbone, OwnBackbone, TimmBackbone
from fer_lightning.models.network import Network

Own: TypeAlias = Mapping[str, Callable[..., nn.Module]]
"""A user's own classes and functions by their names in a checkpoint, such as ``mine.MineHead``."""

NONE: Own = MappingProxyType({})


def head_class(name: str) -> type[SoftmaxHead] | None:
    """Return a head's class by its full name; None if it is not in fer_lightning.losses."""
    package, _, rest = name.rpartition(".")[0].rpartition(".")
    if package == losses.__name__ and rest in {module.name for module in pkgutil.iter_modules(losses.__path__)}:
        head = getattr(importlib.import_module(f"{package}.{rest}"), name.rpartition(".")[2], None)
        if isinstance(head, type) and issubclass(head, SoftmaxHead):
            return head
    return None


def neck_class(name: str) -> type[nn.Module] | None:
    """Return a neck's class by its full name; None if it is not in fer_lightning.models.neck."""
    ours: list[type[nn.Module]] = [necks.Identity, necks.LinearPReLU]
    return {f"{necks.__name__}.{neck.__name__}": neck for neck in ours}.get(name)


def build_network(card: dict[str, Any], own: Own = NONE) -> Network:
    """Return the network that a checkpoint's card describes, with random weights.

    Args:
        card: names the parts of the network; a name outside fer_lightning is never imported.
        own: the parts of the user's own.

    Raises:
        UserError: a part is neither ours nor given, or cannot be built.
    """

    def part(kind: str, ours: Callable[..., nn.Module] | None, *positional: Any, **optional: Any) -> Any:
        name = card[kind]["class"]
        function = ours or own.get(name)
        if function is None:
            raise UserError(
                f"the checkpoint's {kind} is {name}, which is not in fer_lightning: give it to load_model as "
                f"own={{{name!r}: {name.rpartition('.')[2]}}}, or --config-dir to fer predict, "
                "fer evaluate and fer export"
            )
        accepted = {key: value for key, value in optional.items() if key in inspect.signature(function).parameters}
        with in_one_line(f"the checkpoint's {kind}: {name}", own=ours is None):
            return function(*positional, **accepted, **card[kind]["arguments"])

    spec = card["backbone"]
    backbone: Backbone
    if "class" in spec:
        backbone = OwnBackbone(part("backbone", None, pretrained=False), spec)
    else:
        backbone = TimmBackbone(**spec)
    neck = part("neck", neck_class(card["neck"]["class"]), backbone.num_features)
    stats = ClassStats(tuple(card["class_stats"]["names"]), tuple(card["class_stats"]["counts"]))
    return Network(backbone, neck, part("head", head_class(card["head"]["class"]), neck.num_features, stats))

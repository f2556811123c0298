"""Loads a trained model from a checkpoint alone, without Hydra and Lightning."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fer_lightning import losses
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError, in_one_line
from fer_lightning.core.files import require_checkpoint
from fer_lightning.losses.softmax import SoftmaxHead, at_least_float32
from fer_lightning.models import neck as necks
from fer_lightning.models.backbone import Backbone, OwnBackbone, TimmBackbone
from fer_lightning.models.network import Network

Own: TypeAlias = Mapping[str, Callable[..., nn.Module]]
"""A user's own classes and functions by their names in a checkpoint, such as ``mine.MineHead``."""

_NONE: Own = MappingProxyType({})


class Model(nn.Module):
    """Trained network from face crops to class probabilities.

    Attributes:
        classes: C names, in the order of the probabilities.
        card: the description in the checkpoint: classes, protocol and config.
    """

    def __init__(self, network: Network, card: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.classes = tuple(card["class_stats"]["names"])
        self.flip_averaging = bool(card["protocol"].get("flip_averaging"))

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities (N, C) of face crops.

        With flip averaging in the protocol, the logits of a crop and its mirror image are averaged.

        Args:
            images: uint8 RGB face crops (N, 3, H, W), whose side is ``crop`` in the card's protocol.
        """
        logits = self._logits(images)
        if self.flip_averaging:
            logits = (logits + self._logits(images.flip(3))) / 2
        return logits.softmax(1)

    def _logits(self, images: Tensor) -> Tensor:
        return at_least_float32(self.network(images).logits)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint; no code in the file is run.

    Raises:
        UserError: the file does not exist, names code, or was not written by this project.
    """
    require_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path}: refused: it holds more than tensors and plain values, loading it could run code"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(f"checkpoint {path}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict) or "fer_lightning" not in checkpoint:
        raise UserError(f"checkpoint {path}: was not written by fer; give the path of a run's best.ckpt")
    return checkpoint


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


def build_network(card: dict[str, Any], own: Own = _NONE) -> Network:
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
                f"own={{{name!r}: {name.rpartition('.')[2]}}}, or --config-dir to fer evaluate"
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


def load_model(path: str | Path, own: Own = _NONE) -> Model:
    """Return the model in a checkpoint, in eval mode on the CPU.

    Args:
        path: path of a run's best.ckpt.
        own: your own classes that the model needs, by name: ``{"mine.MineHead": MineHead}``. Names of a checkpoint
            outside fer_lightning are never imported.

    Raises:
        UserError: the file is missing, names code, is not ours, needs a class that is not given, or its weights do
            not fit the network that it describes.
    """
    checkpoint = read_checkpoint(Path(path))
    card = checkpoint["fer_lightning"]
    network = build_network(card, own)
    prefix = "network."
    state = {key.removeprefix(prefix): v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights do not fit the network it describes: {error}") from error
    return Model(network, card).eval()

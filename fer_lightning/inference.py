"""A trained model for those who only use it: from a checkpoint alone, without Hydra and Lightning."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning import losses
from fer_lightning.contracts import ClassStats
from fer_lightning.errors import UserError
from fer_lightning.losses.softmax import SoftmaxHead, at_least_float32
from fer_lightning.models import neck as necks
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.network import Network


class Model(nn.Module):
    """Face crops in, class probabilities out.

    Attributes:
        classes: C names, in the order of the probabilities.
        card: what the checkpoint tells: classes, protocol, config.
    """

    def __init__(self, network: Network, card: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.classes = tuple(card["class_stats"]["names"])

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (N, C) of uint8 RGB face crops (N, 3, H, W), of the size in the card's protocol."""
        output = self.network(images)
        return at_least_float32(output.logits).softmax(1)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's plain content; nothing in the file is executed.

    Raises:
        UserError: it is not there, carries code, or was not written by this project.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path}: no such file; give the path of a cell's best.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path}: refused: it holds more than tensors and plain values, loading it could run code"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(f"checkpoint {path}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict) or "fer_lightning" not in checkpoint:
        raise UserError(f"checkpoint {path}: was not written by fer; give the path of a cell's best.ckpt")
    return checkpoint


def head_class(name: str) -> type[SoftmaxHead]:
    """A head's class by ``module.Class``, from fer_lightning.losses and nowhere else.

    Raises:
        UserError: there is no such head.
    """
    module_name, _, class_name = name.partition(".")
    if module_name in {module.name for module in pkgutil.iter_modules(losses.__path__)}:
        found = getattr(importlib.import_module(f"{losses.__name__}.{module_name}"), class_name, None)
        if isinstance(found, type) and issubclass(found, SoftmaxHead):
            return found
    raise UserError(f"the checkpoint's head is {name!r}, which fer_lightning.losses does not have")


def build_network(card: dict[str, Any]) -> Network:
    """The network that a checkpoint's card describes, with random weights.

    Raises:
        UserError: it names parts that this version does not have.
    """
    spec = card["backbone"]
    backbone = Backbone(spec["name"], arguments=spec["arguments"], mean=spec["mean"], std=spec["std"])
    backbone.weights_hash = backbone.spec["weights_hash"] = spec["weights_hash"]
    neck_class = {"Identity": necks.Identity, "LinearPReLU": necks.LinearPReLU}.get(card["neck"]["class"])
    if neck_class is None:
        raise UserError(f"the checkpoint's neck is {card['neck']['class']!r}, which fer_lightning does not have")
    neck = neck_class(backbone.num_features, **card["neck"]["arguments"])
    stats = ClassStats(tuple(card["class_stats"]["names"]), tuple(card["class_stats"]["counts"]))
    head = head_class(card["head"]["class"])(neck.num_features, stats, **card["head"]["arguments"])
    return Network(backbone, neck, head)


def load_model(path: str | Path) -> Model:
    """The model in a checkpoint, in eval mode on the CPU.

    Raises:
        UserError: the file is missing, carries code, is not ours, or its weights do not fit what it describes.
    """
    checkpoint = read_checkpoint(Path(path))
    card = checkpoint["fer_lightning"]
    network = build_network(card)
    prefix = "network."
    state = {key.removeprefix(prefix): v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights do not fit the network it describes: {error}") from error
    return Model(network, card).eval()

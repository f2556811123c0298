"""A network of a few weights in the files of a model, for tests that read very many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.inference import checkpoint as files
from fer_lightning.inference.model import Model

SIDE = 12
NAMES = ["happy", "sad", "fear"]


class Net(nn.Module):
    """Sees the mean of each channel; has a BatchNorm and a dropout, which must rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(3, width)
        self.drop = nn.Dropout(0.5)
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.last(self.norm(images.to(self.last.weight.dtype) / 255).mean((2, 3))))


OWN = {"own.Net": Net}


def card(**other: Any) -> dict[str, Any]:
    """A card as a run writes it."""
    return {
        "backbone": {"class": "own.Net", "arguments": {"width": 4}, "source": "", "weights_hash": None},
        "neck": {"class": "fer_lightning.models.neck.Identity", "arguments": {}},
        "head": {"class": "fer_lightning.losses.softmax.SoftmaxHead", "arguments": {"label_smoothing": 0.0}},
        "class_stats": {"names": NAMES, "counts": [30, 20, 10]},
        "protocol": {"size": SIDE + 4, "margin": 0.25, "crop": SIDE, "flip_averaging": False},
        "framing": {"faces": "boxes", "margin": 0.25, "size": SIDE + 4, "codec": "png", "crop": SIDE},
        "versions": {},
        "config": {"data": {"root": "/home/someone/faces", "codec": "png"}},
        **other,
    }


def state(seed: int = 0) -> dict[str, Tensor]:
    """Weights of the network as a module of Lightning holds them."""
    generator = torch.Generator().manual_seed(seed)
    network = {
        "norm.weight": torch.ones(3),
        "norm.bias": torch.zeros(3),
        "norm.running_mean": torch.full((3,), 0.25),  # of crops() below
        "norm.running_var": torch.full((3,), 0.02),
        "norm.num_batches_tracked": torch.tensor(7),
        "last.weight": torch.randn((4, 3), generator=generator),
        "last.bias": torch.randn(4, generator=generator),
    }
    return {
        **{f"network.backbone.network.{name}": value for name, value in network.items()},
        "network.head.classifier.weight": torch.randn((3, 4), generator=generator),
        "network.head.classifier.bias": torch.randn(3, generator=generator),
        "class_weights": torch.ones(3),
    }


CORRECTIONS = {"logit_adjustment": {"tau": 1.5}, "tau_norm": {"tau": 0.5}, "temperature": {"temperature": 2.0}}


def content(**other: Any) -> dict[str, Any]:
    """The content of a sealed checkpoint, and more."""
    checkpoint = {"epoch": 3, "state_dict": state(), files.CARD: card(), files.CORRECTIONS: CORRECTIONS}
    files.seal(checkpoint)
    return {**checkpoint, **other}


def write(path: Path, **other: Any) -> Path:
    """Write a checkpoint; return its path."""
    files.write_checkpoint(content(**other), path)
    return path


def crops(number: int, seed: int = 1) -> Tensor:
    """Random crops of different colours."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand((number, 3, 1, 1), generator=generator)
    return (256 * colours * torch.rand((number, 3, SIDE, SIDE), generator=generator)).to(torch.uint8)


def same(model: Model, other: Model) -> bool:
    """Whether two models have the same names, framing, corrections and weights."""
    mine, its = model.network.state_dict(), other.network.state_dict()
    return (
        (model.classes, model.framing, model.corrections) == (other.classes, other.framing, other.corrections)
        and mine.keys() == its.keys()
        and all(torch.equal(value, its[name]) for name, value in mine.items())
    )

"""Export of every head, both necks and many backbones to ONNX: how far its probabilities are from PyTorch's.

    python experiments/benchmarks/export.py --out experiments/benchmarks/export.json

Weights are random and pictures small: what is tried is whether each operator is exported as what it is. A case is
exported with parity below 1e-4, or refused in one line, which is written down. Beside the largest differences
stands how far probabilities are apart between crops: their largest standard deviation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from telling import tell
from torch import Tensor, nn

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError
from fer_lightning.inference.build_network import build_network
from fer_lightning.inference.export import export
from fer_lightning.inference.model import Model
from fer_lightning.inference.parity import random_crops

NAMES = ["neutral", "happy", "sad", "fear"]
FITTED = {"logit_adjustment": {"tau": 1.5}, "tau_norm": {"tau": 0.5}, "temperature": {"temperature": 2.0}}

TINY = {
    "layers": [1, 1, 1, 1],
    "channels": [8, 16, 16, 32],
    "stem_type": "deep",
    "stem_width": 8,
    "output_stride": 16,
}

BACKBONES: dict[str, tuple[str, int, Any, dict[str, Any]]] = {
    "legacy_seresnet50": ("legacy_seresnet50", 64, None, {}),
    "mobilenetv1_100": ("mobilenetv1_100", 64, None, {"pad_type": "same"}),
    "convnext_atto": ("convnext_atto", 64, None, {}),
    "vit_tiny": ("vit_tiny_patch16_224", 64, None, {"img_size": 64}),
    "swin_tiny": ("swin_tiny_patch4_window7_224", 56, None, {"img_size": 56}),
    "maxvit_rmlp_pico": ("maxvit_rmlp_pico_rw_256", 64, None, {"img_size": 64}),
    "resized up": ("resnet18", 32, [48, 48], TINY),
    "resized down": ("resnet18", 64, [40, 40], TINY),
}
"""timm's name, side of the crops, size that the network resizes to, and arguments, by the name of the case."""


class Means(nn.Module):
    """A user's own backbone: the mean of each channel through a layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last = nn.Linear(3, width)
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        return self.last(images.float().mean((2, 3)) / 255)


class Branching(Means):
    """One that looks at the values of its pictures to decide what to do: that is no graph."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if bool((images > 128).any()) else 255 - images)


OWN = {"own.Means": Means, "own.Branching": Branching}


def model(
    *,
    backbone: str | dict[str, Any] = "tiny",
    loss: str = "softmax",
    neck: str = "identity",
    flip: bool = False,
    correct: str | None = None,
) -> tuple[Model, str | None]:
    """With random weights; and the correction that is asked for."""
    if isinstance(backbone, dict):
        side, spec = 32, {**backbone, "source": "", "weights_hash": None}
    else:
        name, side, size, options = BACKBONES.get(backbone, ("resnet18", 32, None, TINY))
        spec = {"name": name, "arguments": options, "mean": [0.5] * 3, "std": [0.25] * 3, "input_size": size}
    config = compose([f"loss={loss}", f"neck={neck}"])
    card = {
        "backbone": spec,
        **{
            part: {"class": config[group]["_target_"], "arguments": arguments(config[group])}
            for part, group in (("neck", "neck"), ("head", "loss"))
        },
        "class_stats": {"names": NAMES, "counts": [40, 30, 20, 10]},
        "protocol": {"size": side, "margin": 0.0, "crop": side, "flip_averaging": flip},
    }
    torch.manual_seed(0)
    network = build_network(card, OWN)
    see_crops(network, side)
    return Model(network, card, FITTED), correct


def see_crops(network: nn.Module, side: int) -> None:
    """Let the BatchNorms of a network measure random crops: without, its logits would hardly depend on them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    network.train()
    with torch.no_grad():
        for batch in (16, 17, 18):
            network(random_crops(batch, side))


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of ``model`` by name."""
    for loss in groups()["loss"]:
        yield f"loss={loss}", {"loss": loss, "neck": "linear512_prelu", "flip": True}
    for neck in groups()["neck"]:
        yield f"neck={neck}", {"neck": neck}
    for backbone in BACKBONES:
        yield backbone, {"backbone": backbone}
    for name in FITTED:
        yield f"correct={name}", {"correct": name, "neck": "linear512_prelu"}
    for name in OWN:
        yield name, {"backbone": {"class": name, "arguments": {"width": 8}}}


def outcome(settings: dict[str, Any]) -> dict[str, Any]:
    """The largest differences of probabilities and logits, or the line with which the export is refused."""
    built, correct = model(**settings)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "export"
        try:
            parity = export(built, target, correct=correct)
        except UserError as error:
            assert not target.exists()
            return {"refused": str(error)}
        assert parity is not None
        return {
            **parity["largest_absolute_difference"],
            "probabilities_between_crops": built(random_crops(33, built.framing.crop)).std(0).max().item(),
            "onnx_bytes": (target / "model.onnx").stat().st_size,
        }


def main() -> None:
    """Try all cases, or those whose names hold a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="a case by its name; may be repeated")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    told: dict[str, Any] = {}
    for name, settings in cases():
        if not options.only or name in options.only:
            told[name] = outcome(settings)
            print(name, told[name], flush=True)
    tell({"limit": 1e-4, "cases": told}, options.out)


if __name__ == "__main__":
    main()

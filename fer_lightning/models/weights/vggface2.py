"""VGGFace2's SE-ResNet-50, as its weights are published, in the names of timm's legacy_seresnet50.

Cao, Shen, Xie, Parkhi & Zisserman, "VGGFace2: A dataset for recognising faces across pose and age", FG 2018. There
are two layouts: a pickle of numpy arrays, which sees pictures as BGR, and PyTorch state_dicts, which see RGB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import timm
import torch
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.models.weights.weight_files import require_fit

NETWORK = "legacy_seresnet50"
FEATURES = 2048
MEAN = (131.0912, 103.8827, 91.4953)
"""Of R, G and B, of pixels 0..255; the published networks subtract it and divide by nothing."""

_COUNT = "num_batches_tracked"  # of BatchNorm; says nothing of the weights, and older PyTorch did not have it


@dataclass(frozen=True)
class Layout:
    """How the tensors of the network are named and ordered in a file.

    Attributes:
        title: what a user knows it by.
        colour: order of the input channels.
        first: name of the first convolution, which tells the layout.
        classifier: name of the last layer.
        name: from timm's name of a tensor to the file's.
    """

    title: str
    colour: str
    first: str
    classifier: str
    name: Callable[[str], str]


def _name_in_pickle(key: str) -> str:
    for ours, theirs in (
        ("layer0.", ""),
        ("se_module.fc1", "conv4"),
        ("se_module.fc2", "conv5"),
        ("last_linear", "fc"),
    ):
        key = key.replace(ours, theirs)
    return key


_ENDS = {"layer0.conv1": "conv1_7x7_s2", "layer0.bn1": "conv1_7x7_s2_bn", "last_linear": "classifier"}
_PARTS = {
    "conv1": "reduce",
    "bn1": "reduce_bn",
    "conv3": "increase",
    "bn3": "increase_bn",
    "se_module.fc1": "down",
    "se_module.fc2": "up",
    "downsample.0": "proj",
    "downsample.1": "proj_bn",
}
_MIDDLE = {"conv2": "3x3", "bn2": "3x3_bn"}


def _name_in_state_dict(key: str) -> str:
    module, _, tensor = key.rpartition(".")
    if found := re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", module):
        stage, block, part = int(found[1]) + 1, int(found[2]) + 1, found[3]
        return f"conv{stage}_{block}_{_MIDDLE.get(part) or f'1x1_{_PARTS[part]}'}.{tensor}"
    return f"{_ENDS[module]}.{tensor}"


LAYOUTS = (
    Layout("pickle of numpy arrays (senet50_*_weight.pkl)", "BGR", "conv1", "fc", _name_in_pickle),
    Layout("PyTorch state_dict (senet50_*.pth)", "RGB", "conv1_7x7_s2", "classifier", _name_in_state_dict),
)


@dataclass(frozen=True)
class Converted:
    """The network's weights for RGB pictures.

    Attributes:
        state: timm's state_dict, float32; with ``last_linear`` where the file has a classifier of the features.
        layout: of the file.
        left_out: names of the file's layers that are not in it.
    """

    state: dict[str, Tensor]
    layout: Layout
    left_out: tuple[str, ...]


def convert(published: Mapping[str, Tensor], what: str) -> Converted:
    """The published tensors by timm's names, all of them checked; a BGR file's first layer is turned to RGB.

    Args:
        published: a file's tensors by their names there.
        what: the file; messages begin with it.

    Raises:
        UserError: it is another network, or a tensor is missing, unknown, of another shape or not finite.
    """
    layout = _layout(published, what)
    left_out = _embedding(published, layout)
    given = {name: value for name, value in published.items() if _layer(name) not in left_out}
    needed = _needed(given.get(f"{layout.classifier}.weight"))
    for key, value in needed.items():
        name = layout.name(key)
        if name.endswith(_COUNT):
            given.setdefault(name, torch.zeros((), dtype=torch.int64))
        if name in given and given[name].squeeze().shape == value.squeeze().shape:
            given[name] = given[name].reshape(value.shape)  # a linear layer and a 1x1 convolution are one thing
    by_name = {layout.name(key): value for key, value in needed.items()}
    require_fit(given, by_name, what, "give VGGFace2's SE-ResNet-50, the whole file as it is published")
    for name, value in given.items():
        if not (name.endswith(_COUNT) or (value.is_floating_point() and value.isfinite().all())):
            raise UserError(f"{what}: {name} does not hold finite floating-point numbers; copy it again")
    state = {key: given[layout.name(key)].to(value.dtype).contiguous() for key, value in needed.items()}
    if layout.colour == "BGR":
        state["layer0.conv1.weight"] = state["layer0.conv1.weight"].flip(1)
    return Converted(state, layout, left_out)


def _layout(published: Mapping[str, Tensor], what: str) -> Layout:
    for layout in LAYOUTS:
        if f"{layout.first}.weight" in published:
            return layout
    if "layer0.conv1.weight" in published:
        raise UserError(f"{what}: is in timm's names already; give it as backbone.weights")
    firsts = " nor ".join(f"{layout.first}.weight" for layout in LAYOUTS)
    raise UserError(
        f"{what}: is not VGGFace2's SE-ResNet-50, it has neither {firsts}; "
        "give senet50_*_weight.pkl or senet50_*.pth"
    )


def _layer(name: str) -> str:
    """``fc`` of ``fc.weight``."""
    return name.rpartition(".")[0]


@cache
def _trunk() -> dict[str, Tensor]:
    """Names and shapes of timm's tensors without a classifier."""
    with torch.device("meta"):
        state: dict[str, Tensor] = timm.create_model(NETWORK, num_classes=0).state_dict()
    return state


def _needed(classifier: Tensor | None) -> dict[str, Tensor]:
    """Names and shapes of all tensors; a classifier's weight (C, features) tells the number of classes."""
    if classifier is None or not classifier.ndim:
        return _trunk()
    shapes = {"last_linear.weight": (len(classifier), FEATURES), "last_linear.bias": (len(classifier),)}
    return _trunk() | {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _embedding(published: Mapping[str, Tensor], layout: Layout) -> tuple[str, ...]:
    """Layers behind the features that no other file has: an embedding, and the classifier that reads from it."""
    known = {layout.classifier, *(_layer(layout.name(key)) for key in _trunk())}
    classifier = published.get(f"{layout.classifier}.weight")
    for layer in sorted({_layer(name) for name in published} - known):
        weight = published.get(f"{layer}.weight")
        if weight is None or _read(weight) != FEATURES:
            continue
        if classifier is None:
            return (layer,)
        if _read(classifier) == len(weight):
            return (layer, layout.classifier)
    return ()


def _read(weight: Tensor) -> int:
    """How many features a layer reads."""
    return weight.shape[1] if weight.ndim > 1 else 0

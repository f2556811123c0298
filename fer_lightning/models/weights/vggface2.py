"""Published weights of VGGFace2's SE-ResNet-50, renamed for timm's legacy_seresnet50.

Cao, Shen, Xie, Parkhi & Zisserman, "VGGFace2: A dataset for recognising faces across pose and age", FG 2018. There
are two layouts: a pickle of numpy arrays for BGR pictures, and PyTorch state_dicts for RGB pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.models.weights.fit import COUNT, require_fit, require_one_part
from fer_lightning.models.weights.unwrap import Part, parts, state_dicts

NETWORK = "legacy_seresnet50"
FEATURES = 2048
MEAN = (131.0912, 103.8827, 91.4953)
"""Mean of R, G and B of pixels 0..255; the published networks subtract it, and divide by nothing."""


@dataclass(frozen=True)
class Layout:
    """Names and order of the network's tensors in a file.

    Attributes:
        title: the kind of file, for messages.
        colour: order of the input channels.
        first: name of the first convolution, by which the layout is recognised.
        classifier: name of the last layer.
        name: function from timm's name of a tensor to the file's.
    """

    title: str
    colour: str
    first: str
    classifier: str
    name: Callable[[str], str]


_IN_PICKLE = {"layer0.": "", "se_module.fc1": "conv4", "se_module.fc2": "conv5", "last_linear": "fc"}


def _name_in_pickle(key: str) -> str:
    for ours, theirs in _IN_PICKLE.items():
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
    if match := re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", module):
        stage, block, part = int(match[1]) + 1, int(match[2]) + 1, match[3]
        return f"conv{stage}_{block}_{_MIDDLE.get(part) or f'1x1_{_PARTS[part]}'}.{tensor}"
    return f"{_ENDS[module]}.{tensor}"


LAYOUTS = (
    Layout("pickle of numpy arrays (senet50_*_weight.pkl)", "BGR", "conv1", "fc", _name_in_pickle),
    Layout("PyTorch state_dict (senet50_*.pth)", "RGB", "conv1_7x7_s2", "classifier", _name_in_state_dict),
)


@dataclass(frozen=True)
class Converted:
    """Weights of the network for RGB pictures.

    Attributes:
        state: timm's state_dict, float32; with ``last_linear`` if the file has a classifier of the features.
        layout: the layout of the file.
        left_out: names of the file's layers that are left out.
    """

    state: dict[str, Tensor]
    layout: Layout
    left_out: tuple[str, ...]


def convert(published: Mapping[str, Tensor], label: str) -> Converted:
    """Return the published tensors under timm's names, checked; the first layer of a BGR file is turned to RGB.

    Args:
        published: the tensors of a file by name.
        label: the file's name; messages begin with it.

    Raises:
        UserError: the file holds another network, or a tensor is missing, unknown, of another shape or not finite.
    """
    layout = _layout(published, label)
    left_out = _embedding(published, layout)
    given = {name: value for name, value in published.items() if _layer(name) not in left_out}
    needed = _needed(given.get(f"{layout.classifier}.weight"))
    for key, value in needed.items():
        name = layout.name(key)
        if name.endswith(COUNT):
            given.setdefault(name, torch.zeros((), dtype=torch.int64))
        if name in given and given[name].squeeze().shape == value.squeeze().shape:
            given[name] = given[name].reshape(value.shape)  # a 1x1 convolution is a linear layer
    by_name = {layout.name(key): value for key, value in needed.items()}
    require_fit(given, by_name, label, "give VGGFace2's SE-ResNet-50, the whole file as it is published")
    for name, value in given.items():
        if not (name.endswith(COUNT) or (value.is_floating_point() and value.isfinite().all())):
            raise UserError(f"{label}: {name} does not hold finite floating-point numbers; copy it again")
    state = {key: given[layout.name(key)].to(value.dtype).contiguous() for key, value in needed.items()}
    if layout.colour == "BGR":
        state["layer0.conv1.weight"] = state["layer0.conv1.weight"].flip(1)
    return Converted(state, layout, left_out)


def find(content: Mapping[str, Any], label: str) -> Part:
    """Return the part of a file that has the published names, or most of them.

    Args:
        content: what the file holds.
        label: the file's name; messages begin with it.

    Raises:
        UserError: several parts have all names, with different tensors.
    """
    found: list[tuple[bool, int, Part]] = []
    for layout in LAYOUTS:
        names = {layout.name(key) for key in _trunk() if not key.endswith(COUNT)}
        found += [(count == len(names), count, part) for count, part in parts(content, names)]
    whole = [part for is_whole, _, part in found if is_whole]
    require_one_part([part for i, part in enumerate(whole) if not any(part.equals(w) for w in whole[:i])], label)
    return max(found, key=lambda each: each[:2], default=(False, 0, Part(state_dicts(content)[0], "")))[2]


def _layout(published: Mapping[str, Tensor], label: str) -> Layout:
    for layout in LAYOUTS:
        if f"{layout.first}.weight" in published:
            return layout
    if "layer0.conv1.weight" in published:
        raise UserError(f"{label}: has timm's names already; give it as backbone.weights")
    firsts = " nor ".join(f"{layout.first}.weight" for layout in LAYOUTS)
    raise UserError(
        f"{label}: is not VGGFace2's SE-ResNet-50, it has neither {firsts}; "
        "give senet50_*_weight.pkl or senet50_*.pth"
    )


def _layer(name: str) -> str:
    """Return the layer of a tensor: ``fc`` for ``fc.weight``."""
    return name.rpartition(".")[0]


@cache
def _trunk() -> dict[str, Tensor]:
    """Return the names and shapes of timm's tensors without a classifier."""
    with torch.device("meta"):
        state: dict[str, Tensor] = timm.create_model(NETWORK, num_classes=0).state_dict()
    return state


def _needed(classifier: Tensor | None) -> dict[str, Tensor]:
    """Return the names and shapes of all tensors, with a classifier if its weight (C, ...) is given."""
    if classifier is None or not classifier.ndim:
        return _trunk()
    shapes = {"last_linear.weight": (len(classifier), FEATURES), "last_linear.bias": (len(classifier),)}
    return _trunk() | {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _embedding(published: Mapping[str, Tensor], layout: Layout) -> tuple[str, ...]:
    """Return the layers that only files with an embedding have: it, and a classifier whose input it is."""
    known = {layout.classifier, *(_layer(layout.name(key)) for key in _trunk())}
    classifier = published.get(f"{layout.classifier}.weight")
    for layer in sorted({_layer(name) for name in published} - known):
        weight = published.get(f"{layer}.weight")
        if weight is None or _input_size(weight) != FEATURES:
            continue
        if classifier is None:
            return (layer,)
        if _input_size(classifier) == len(weight):
            return (layer, layout.classifier)
    return ()


def _input_size(weight: Tensor) -> int:
    """Return the number of input features of a layer."""
    return weight.shape[1] if weight.ndim > 1 else 0

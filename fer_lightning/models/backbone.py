"""Backbones: uint8 pictures to embeddings, by a timm network with strictly loaded weights, or a user's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.core.errors import UserError
from fer_lightning.core.ranges import Count, Finite, Positive
from fer_lightning.models.weights.weight_files import load_weights

_FETCHING = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
"""Arguments of ``timm.create_model`` that make it open or download files."""


STEM = "stem"
"""Name of a backbone's first block, where its parameters have no name in common."""


class Backbone(nn.Module):
    """A network from uint8 RGB pictures (N, 3, H, W) to embeddings (N, num_features), and what is known of it.

    Args:
        network: any module with ``num_features``.
        name: timm's, or the class or function of the user's own.
        spec: what rebuilds it, as plain values; its ``weights_hash`` is the SHA-256 of the weights it starts from,
            None where random.
        code: what names the code that computes.
    """

    network: Any  # timm's classes share no base with num_features and group_matcher

    def __init__(self, network: nn.Module, name: str, spec: dict[str, Any], code: str) -> None:
        super().__init__()
        self.network = network
        self.num_features: int = self.network.num_features
        self.name = name
        self.spec = spec
        self.code = code

    @property
    def weights_hash(self) -> str | None:
        """SHA-256 of the weights it starts from; None where random."""
        found: str | None = self.spec["weights_hash"]
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, num_features) of uint8 pictures (N, 3, H, W)."""
        embeddings: Tensor = self.network(images)
        return embeddings

    def complete(self) -> None:
        """Whatever takes long before its weights are there; called once the data is known to be right."""

    def blocks(self) -> dict[str, list[str]]:
        """Names of the parameters by block, from the first block to the last.

        A block is a child of the network that has parameters (of its only such child, where it has just one);
        parameters beside the children are the first block.
        """
        owners = {name: name.split(".")[:-1] for name, _ in self.named_parameters()}
        shared = takewhile(lambda column: len(set(column)) == 1, zip(*owners.values(), strict=False))
        depth = len([*shared])
        blocks: dict[str, list[str]] = {}
        for name, owner in owners.items():
            blocks.setdefault(owner[depth] if len(owner) > depth else STEM, []).append(name)
        return blocks


class TimmBackbone(Backbone):
    """A timm network without its classifier.

    Args:
        name: a timm model name.
        arguments: further arguments of ``timm.create_model``.
        mean: by channel, of pixels scaled to 0..1, in the order R, G, B.
        std: likewise.
        input_size: side, or height and width, that pictures are resized to; None: they are taken as they are.
        weights_hash: see Backbone.

    Raises:
        UserError: timm has no such network or does not take the arguments, or a number makes no sense.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        mean: Sequence[Finite],
        std: Sequence[Positive],
        input_size: Count | Sequence[Count] | None = None,
        weights_hash: str | None = None,
    ) -> None:
        arguments = {"drop_rate": 0.0, **(arguments or {})}
        network = _headless(name, arguments)
        size = [input_size] * 2 if isinstance(input_size, int) else [*(input_size or ())]
        mean, std = [float(value) for value in mean], [float(value) for value in std]
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"backbone.mean={mean}, std={std}: give three numbers each, for R, G, B; std above 0")
        if input_size is not None and (len(size) != 2 or min(size) < 1):
            raise UserError(f"backbone.input_size={size}: give a side, or [height, width], in pixels")
        spec: dict[str, Any] = {
            "name": name,
            "arguments": {key: list(v) if isinstance(v, tuple) else v for key, v in arguments.items()},
            "mean": mean,
            "std": std,
            "input_size": size or None,
            "weights_hash": weights_hash,
        }
        super().__init__(network, name, spec, code=f"{name} {spec['arguments']} {size}")
        # what it returns without a classifier; some have layers between num_features and that
        self.num_features = getattr(network, "head_hidden_size", None) or network.num_features
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, num_features) of pictures 0..255 (N, 3, H, W), resized and normalised on their device."""
        pixels, size = images.to(self.mean.dtype), self.spec["input_size"]
        if size and [*pixels.shape[2:]] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return super().forward((pixels / 255 - self.mean) / self.std)

    def load(self, path: Path) -> None:
        """Start from the weights in a local file.

        Raises:
            UserError: see ``load_weights``.
        """
        self.spec["weights_hash"] = load_weights(self.network, path)

    def blocks(self) -> dict[str, list[str]]:
        """Names of the parameters by block, from the stem to the last, in timm's own coarse grouping.

        A block has the shortest name that its first parameter begins with and none of the other blocks', such as
        ``layer3`` or ``blocks.5``; the first block is the stem, unless all its parameters begin alike. The few
        networks without such a grouping have their children for blocks.
        """
        try:
            grouped = group_parameters(self.network, self.network.group_matcher(coarse=True))
        except (AttributeError, AssertionError):
            return super().blocks()
        blocks: dict[str, list[str]] = {}
        for place, key in enumerate(sorted(grouped)):
            others = [name for other in grouped if other != key for name in grouped[other]]
            name = _own_prefix(grouped[key], others, shared=place == 0)
            blocks[name or STEM] = [f"network.{parameter}" for parameter in grouped[key]]
        return blocks


def _own_prefix(names: Sequence[str], others: Sequence[str], *, shared: bool) -> str:
    """The shortest dotted prefix of the first name that no other has; of all names where it must be ``shared``."""
    parts = names[0].split(".")
    for depth in range(1, len(parts)):
        prefix = ".".join(parts[:depth]) + "."
        if not any(name.startswith(prefix) for name in others):
            return prefix[:-1] if not shared or all(name.startswith(prefix) for name in names) else ""
    return ""


class OwnBackbone(Backbone):
    """A user's own network; what it makes of the uint8 pictures is its own affair.

    Args:
        network: any module with ``num_features``, from uint8 pictures (N, 3, H, W) to (N, num_features).
        spec: the ``class`` and ``arguments`` it was made of, a hash of its ``source``, and ``weights_hash``.
    """

    def __init__(self, network: nn.Module, spec: dict[str, Any]) -> None:
        super().__init__(network, spec["class"], spec, code=f"{spec['class']} {spec['source']}")


def _require_name(name: str) -> None:
    """Refuse a name that timm would fetch from elsewhere, or does not have."""
    if ":" in name:  # a checkpoint may say this, too, and must not make us download anything
        raise UserError(f"backbone.name={name}: {name} would fetch weights; say backbone.weights=FILE")
    if not timm.is_model(name):
        close = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3))
        raise UserError(f"backbone.name={name}: timm has no such network{close and f'; there is {close}'}")


def _headless(name: str, arguments: Mapping[str, Any]) -> Any:
    """timm's network without a classifier."""
    _require_name(name)
    if fetching := sorted(_FETCHING & arguments.keys()):  # these may come from a checkpoint as well
        raise UserError(f"backbone.name={name}: {fetching[0]} would fetch weights; say backbone.weights=FILE")
    try:
        network = timm.create_model(name, num_classes=0, **arguments)
    except Exception as error:  # each network refuses in its own way
        reason = str(error) or type(error).__name__
        raise UserError(f"backbone.name={name}: timm cannot build it with {arguments}: {reason}") from error
    if not isinstance(getattr(network, "num_features", None), int):
        raise UserError(f"backbone.name={name}: with {arguments} it makes no embedding but feature maps")
    return network


def local_weights(
    name: str,
    *,
    weights: str | None,
    pretrained: bool,
    mean: Sequence[Finite],
    std: Sequence[Positive],
    source: str,
    arguments: Mapping[str, Any] | None = None,
    input_size: Count | Sequence[Count] | None = None,
) -> Backbone:
    """A backbone that starts from a local weights file.

    Args:
        name: a timm model name.
        weights: path of the state_dict.
        pretrained: False leaves the weights random (from_scratch); no file is needed then.
        mean: see TimmBackbone.
        std: see TimmBackbone.
        source: where such a file usually comes from, for the message when it is missing or another one.
        arguments: see TimmBackbone.
        input_size: see TimmBackbone.

    Raises:
        UserError: the file is not given, not there, or does not fit.
    """
    if pretrained and weights is None:
        raise UserError(
            f"backbone.weights is not set: {name} starts from a local file, or from random weights with "
            f"stage=from_scratch; {source}"
        )
    backbone = TimmBackbone(name, arguments=arguments, mean=mean, std=std, input_size=input_size)
    if pretrained and weights is not None:
        try:
            backbone.load(Path(weights).expanduser())
        except UserError as error:
            raise UserError(f"{error}; {source}") from error
    return backbone


def timm_network(
    name: str,
    *,
    weights: str | None,
    pretrained: bool,
    mean: Sequence[Finite] | None,
    std: Sequence[Positive] | None,
    input_size: Count | Sequence[Count] | None,
    source: str,
    arguments: Mapping[str, Any],
) -> Backbone:
    """Any network of timm's, as ``local_weights``, on pictures as it was trained on.

    Args:
        name: a timm model name; a tag, as in ``resnet18.a1_in1k``, says whose mean and std.
        weights: see local_weights.
        pretrained: see local_weights.
        mean: see TimmBackbone; None: what timm knows of the network.
        std: likewise.
        input_size: likewise, or the arguments' ``img_size`` where that is given.
        source: see local_weights.
        arguments: see TimmBackbone.

    Raises:
        UserError: timm has no such network, or see local_weights.
    """
    _require_name(name)
    try:
        own = get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise UserError(f"backbone.name={name}: {error} Say the name without its tag") from error
    assert own is not None
    return local_weights(
        name,
        weights=weights,
        pretrained=pretrained,
        mean=own.mean if mean is None else mean,
        std=own.std if std is None else std,
        source=source,
        arguments=arguments,
        input_size=(arguments.get("img_size") or own.input_size[1:]) if input_size is None else input_size,
    )

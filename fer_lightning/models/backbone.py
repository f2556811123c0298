"""Backbones from uint8 pictures to embeddings: timm's networks with strictly loaded weights, or a user's own."""

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
from fer_lightning.core.files import user_path
from fer_lightning.core.ranges import Count, Finite, Positive
from fer_lightning.models.weights.weight_files import load_weights

_FETCHING = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
"""Arguments of ``timm.create_model`` that make it open or download files."""

STEM = "stem"
"""Name of a backbone's first block if the names of its parameters share no prefix."""


class Backbone(nn.Module):
    """Network from uint8 RGB pictures (N, 3, H, W) to embeddings (N, num_features), with its description.

    Args:
        network: any module with ``num_features``.
        name: timm's name of the network, or the user's class or function.
        spec: plain values from which the backbone can be rebuilt; ``weights_hash`` is the SHA-256 of the weights
            that it starts from, None if they are random.
        code: identifies the code that computes the embeddings.
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
        """Return the SHA-256 of the weights that the backbone starts from; None if they are random."""
        digest: str | None = self.spec["weights_hash"]
        return digest

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (N, num_features) of uint8 pictures (N, 3, H, W)."""
        embeddings: Tensor = self.network(self.prepared(images))
        return embeddings

    def prepared(self, images: Tensor) -> Tensor:
        """Return what the network is given for uint8 pictures (N, 3, H, W)."""
        return images

    def complete(self) -> None:
        """Do what takes long before the weights are loaded; called once the data has been checked."""

    def blocks(self) -> dict[str, list[str]]:
        """Return the names of the parameters by block, from the first block to the last.

        A block is a child of the network that has parameters; if there is only one such child, its children are
        the blocks. Parameters that belong to no child are the first block.
        """
        owners = {name: name.split(".")[:-1] for name, _ in self.named_parameters()}
        shared = takewhile(lambda column: len(set(column)) == 1, zip(*owners.values(), strict=False))
        depth = len([*shared])
        blocks: dict[str, list[str]] = {}
        for name, owner in owners.items():
            blocks.setdefault(owner[depth] if len(owner) > depth else STEM, []).append(name)
        return blocks


class TimmBackbone(Backbone):
    """Network of timm's without its classifier.

    Args:
        name: a timm model name.
        arguments: further arguments of ``timm.create_model``.
        mean: mean of R, G and B, of pixels scaled to 0..1.
        std: standard deviation of the same.
        input_size: side, or height and width, that pictures are resized to; None keeps their size.
        weights_hash: see Backbone.

    Raises:
        UserError: timm has no such network or refuses the arguments, or a number is out of its range.
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
        network = _without_classifier(name, arguments)
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
        # the width of the output without a classifier, which some networks compute by further layers
        self.num_features = getattr(network, "head_hidden_size", None) or network.num_features
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def prepared(self, images: Tensor) -> Tensor:
        """Return pictures 0..255 (N, 3, H, W) in the network's size, normalised."""
        pixels, size = images.to(self.mean.dtype), self.spec["input_size"]
        if size and [*pixels.shape[2:]] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return (pixels / 255 - self.mean) / self.std

    def load(self, path: Path) -> None:
        """Load the weights in a local file.

        Raises:
            UserError: see ``load_weights``.
        """
        self.spec["weights_hash"] = load_weights(self.network, path)

    def blocks(self) -> dict[str, list[str]]:
        """Return the names of the parameters by block, from the stem to the last, in timm's coarse grouping.

        The name of a block is the shortest prefix of its first parameter that no parameter of another block has,
        such as ``layer3`` or ``blocks.5``; the first block is called ``stem`` unless all its parameters have that
        prefix. For the few networks without such a grouping, see ``Backbone.blocks``.
        """
        try:
            grouped = group_parameters(self.network, self.network.group_matcher(coarse=True))
        except (AttributeError, AssertionError):
            return super().blocks()
        blocks: dict[str, list[str]] = {}
        for number, key in enumerate(sorted(grouped)):
            others = [name for other in grouped if other != key for name in grouped[other]]
            name = _unique_prefix(grouped[key], others, shared=number == 0)
            blocks[name or STEM] = [f"network.{parameter}" for parameter in grouped[key]]
        return blocks


def _unique_prefix(names: Sequence[str], others: Sequence[str], *, shared: bool) -> str:
    """Return the shortest dotted prefix of the first name that none of the other names has.

    Args:
        names: names of the parameters of a block.
        others: names of all other parameters.
        shared: whether all names must have the prefix.

    Returns:
        The prefix; empty if there is none.
    """
    parts = names[0].split(".")
    for depth in range(1, len(parts)):
        prefix = ".".join(parts[:depth]) + "."
        if not any(name.startswith(prefix) for name in others):
            return prefix[:-1] if not shared or all(name.startswith(prefix) for name in names) else ""
    return ""


class OwnBackbone(Backbone):
    """Network of the user's own, which resizes and normalises the uint8 pictures itself.

    Args:
        network: any module with ``num_features``, from uint8 pictures (N, 3, H, W) to (N, num_features).
        spec: its ``class`` and ``arguments``, a hash of its ``source``, and ``weights_hash``.
    """

    def __init__(self, network: nn.Module, spec: dict[str, Any]) -> None:
        super().__init__(network, spec["class"], spec, code=f"{spec['class']} {spec['source']}")


def _require_name(name: str) -> None:
    """Refuse a name for which timm would download files, and one that timm does not have."""
    if ":" in name:  # may also come from a checkpoint, which must not cause a download
        raise UserError(f"backbone.name={name}: {name} would fetch weights; give backbone.weights=FILE")
    if not timm.is_model(name):
        close = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3))
        raise UserError(f"backbone.name={name}: timm has no such network{close and f'; there is {close}'}")


def _without_classifier(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return timm's network without a classifier, with random weights."""
    _require_name(name)
    if fetching := sorted(_FETCHING & arguments.keys()):  # may also come from a checkpoint
        raise UserError(f"backbone.name={name}: {fetching[0]} would fetch weights; give backbone.weights=FILE")
    try:
        network = timm.create_model(name, num_classes=0, **arguments)
    except Exception as error:  # networks refuse arguments with exceptions of all types
        reason = str(error) or type(error).__name__
        raise UserError(f"backbone.name={name}: timm cannot build it with {arguments}: {reason}") from error
    if not isinstance(getattr(network, "num_features", None), int):
        raise UserError(f"backbone.name={name}: with {arguments} it returns feature maps, not an embedding")
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
    """Return a backbone that starts from a local weights file.

    Args:
        name: a timm model name.
        weights: path of a state_dict.
        pretrained: False keeps random weights, as for stage=from_scratch; no file is needed then.
        mean: see TimmBackbone.
        std: see TimmBackbone.
        source: where such a file comes from, for messages about a missing or a wrong one.
        arguments: see TimmBackbone.
        input_size: see TimmBackbone.

    Raises:
        UserError: the file is not given, does not exist, or does not fit.
    """
    if pretrained and weights is None:
        raise UserError(
            f"backbone.weights is not set: {name} starts from a local file, or from random weights with "
            f"stage=from_scratch; {source}"
        )
    backbone = TimmBackbone(name, arguments=arguments, mean=mean, std=std, input_size=input_size)
    if pretrained and weights is not None:
        try:
            backbone.load(user_path(weights))
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
    """Return any network of timm's, with its own mean, std and input size by default; see ``local_weights``.

    Args:
        name: a timm model name; a tag, as in ``resnet18.a1_in1k``, chooses the mean and std of these weights.
        weights: see local_weights.
        pretrained: see local_weights.
        mean: see TimmBackbone; by default timm's.
        std: see TimmBackbone; by default timm's.
        input_size: see TimmBackbone; by default ``img_size`` of the arguments, else timm's.
        source: see local_weights.
        arguments: see TimmBackbone.

    Raises:
        UserError: timm has no such network; see also local_weights.
    """
    _require_name(name)
    try:
        defaults = get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise UserError(f"backbone.name={name}: {error} Give the name without its tag") from error
    assert defaults is not None
    return local_weights(
        name,
        weights=weights,
        pretrained=pretrained,
        mean=defaults.mean if mean is None else mean,
        std=defaults.std if std is None else std,
        source=source,
        arguments=arguments,
        input_size=(arguments.get("img_size") or defaults.input_size[1:]) if input_size is None else input_size,
    )

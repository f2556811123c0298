"""Backbones: uint8 pictures to embeddings, by a timm network with strictly loaded weights, or a user's own."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import group_parameters
from torch import Tensor, nn

from fer_lightning.cache import file_hash
from fer_lightning.errors import UserError

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
        weights_hash: see Backbone.

    Raises:
        UserError: timm has no such network or does not take the arguments.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        weights_hash: str | None = None,
    ) -> None:
        arguments = {"drop_rate": 0.0, **(arguments or {})}
        fetching = sorted(_FETCHING & arguments.keys()) or [name] * (":" in name)
        if fetching:  # a checkpoint may say this too, and must not make us open or download anything
            raise UserError(f"backbone.name={name}: {fetching[0]} would fetch weights; say backbone.weights=FILE")
        try:
            network = timm.create_model(name, num_classes=0, **arguments)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"backbone.name={name}: timm cannot build it with {arguments}: {error}") from error
        spec: dict[str, Any] = {
            "name": name,
            "arguments": {key: list(v) if isinstance(v, tuple) else v for key, v in arguments.items()},
            "mean": list(mean),
            "std": list(std),
            "weights_hash": weights_hash,
        }
        super().__init__(network, name, spec, code=name)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, num_features) of uint8 pictures (N, 3, H, W), normalised here, on their device."""
        return super().forward((images.to(self.mean.dtype) / 255 - self.mean) / self.std)

    def load(self, path: Path) -> None:
        """Start from the weights in a local file.

        Raises:
            UserError: see ``load_weights``.
        """
        load_weights(self.network, path)
        self.spec["weights_hash"] = file_hash(path)

    def blocks(self) -> dict[str, list[str]]:
        """Names of the parameters by block, from the stem to the last, in timm's own coarse grouping.

        A block has the shortest name that its first parameter begins with and none of the other blocks', such as
        ``layer3`` or ``blocks.5``; the first block is the stem, unless all its parameters begin alike. The blocks of
        the few networks that have no such grouping are their children.
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


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a local state_dict (safetensors, pth or pt) strictly; a classifier of another network is no part of it.

    Raises:
        UserError: the file is missing, is no state_dict, carries code, or does not fit; the message names keys.
    """
    state = read_state_dict(path)
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    unknown = sorted(state.keys() - own.keys())
    shapes = [
        f"{key} is {tuple(state[key].shape)}, needed {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    for what, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes:", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(
                f"backbone.weights={path}: these weights do not fit the backbone: the file {what} "
                f"{', '.join(keys[:3])}{more}; give the state_dict of exactly this network"
            )
    module.load_state_dict(state)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors or PyTorch file; nothing in the file is executed.

    Raises:
        UserError: the file is missing, unreadable, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise UserError(f"backbone.weights={path}: no such file; give the path of a local state_dict")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"backbone.weights={path}: not a file of tensors only: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"backbone.weights={path}: holds something else than tensors by name (a state_dict)")
    return state


def local_weights(
    name: str,
    *,
    weights: str | None,
    pretrained: bool,
    mean: Sequence[float],
    std: Sequence[float],
    source: str,
    arguments: Mapping[str, Any] | None = None,
) -> Backbone:
    """A backbone that starts from a local weights file.

    Args:
        name: a timm model name.
        weights: path of the state_dict.
        pretrained: False leaves the weights random (from_scratch); no file is needed then.
        mean: see TimmBackbone.
        std: see TimmBackbone.
        source: where such a file usually comes from, for the message when it is missing.
        arguments: see TimmBackbone.

    Raises:
        UserError: the file is not given, not there, or does not fit.
    """
    if not pretrained:
        return TimmBackbone(name, arguments=arguments, mean=mean, std=std)
    if weights is None:
        raise UserError(f"backbone.weights is not set: {name} starts from a local file; {source}")
    backbone = TimmBackbone(name, arguments=arguments, mean=mean, std=std)
    backbone.load(Path(weights).expanduser())
    return backbone

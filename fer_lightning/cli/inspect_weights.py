"""Print what a weights file holds and which backbones it fits; imported by ``fer weights``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fer_lightning.config.compose import compose
from fer_lightning.config.shipped import groups as config_groups
from fer_lightning.core.errors import UserError
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.weights import vggface2
from fer_lightning.models.weights.fit import compare_closest, complete
from fer_lightning.models.weights.unwrap import groups, listed, state_dicts, tensors_in
from fer_lightning.models.weights.weight_files import file_kind, read_bytes, read_published

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_CLASSIFIERS = {"classifier", "fc", "head", "head_dist", "last_linear", "logits"}


def inspect_weights(source: Path, names: Sequence[str]) -> None:
    """Print what a file holds, and which backbones it fits.

    Args:
        source: the file.
        names: timm's names of networks that are compared besides the options of conf/backbone.

    Raises:
        UserError: the file is damaged, holds no tensors or names code, or timm has no such network.
    """
    content = read_bytes(source, str(source))
    held = read_published(content, str(source))
    networks = _networks(names)
    print(source)
    print(f"  kind: {file_kind(content) or 'pickle of arrays'}, {len(content):,} bytes")
    print(f"  SHA-256: {hashlib.sha256(content).hexdigest()}")
    found = state_dicts(held)
    for each in found[:8]:
        place = f"below {'.'.join(each.keys)}: " if each.keys else ""
        print(f"  {place}{tensors_in(len(each.tensors))}, {_parameters(each.tensors):,} parameters")
        for line in _described(each.tensors):
            print(f"    {line}")
    if len(found) > 8:
        print(f"  {len(found) - 8} more groups of tensors")
    if others := [str(key) for key in held if not any(key in (*each.keys[:1], *each.tensors) for each in found)]:
        print(f"  beside: {listed(others, 12)}")
    print("  as backbone.weights:")
    for title, backbone in networks.items():
        print(f"    {title}: {_verdict(held, backbone)}")


def _networks(names: Sequence[str]) -> dict[str, TimmBackbone]:
    """Return the networks that a file is compared with, by the words that configure them."""
    networks: dict[str, TimmBackbone] = {}
    for option in config_groups()["backbone"]:
        node = compose([f"backbone={option}"])["backbone"]
        title = f"backbone={option}" + (f" backbone.name={node['name']}" if option == "timm" else "")
        networks[title] = _network(node["name"], node["arguments"])
    return networks | {f"backbone=timm backbone.name={name}": _network(name, {}) for name in names}


def _network(name: str, arguments: Mapping[str, Any]) -> TimmBackbone:
    return TimmBackbone(name, arguments=arguments, mean=[0.5] * 3, std=[0.5] * 3)


def _described(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    named = [*tensors]
    by_group = [f"{group} {count}" for group, count in groups(named).items()]
    yield f"by module: {listed(by_group, 12)}"
    yield f"first: {_tensor(named[0], tensors)}"
    yield f"last: {_tensor(named[-1], tensors)}"
    if (first := _first_convolution(tensors)) is not None:
        yield f"first convolution: {first}, {tensors[first].shape[1]} input channels"
    for module, (classes, features) in _classifiers(tensors).items():
        yield f"classifier: {module}, {classes} classes of {features} features"


def _tensor(name: str, tensors: Mapping[str, Tensor]) -> str:
    return f"{name} {tuple(tensors[name].shape)} {str(tensors[name].dtype).removeprefix('torch.')}"


def _parameters(tensors: Mapping[str, Tensor]) -> int:
    """Return how many numbers there are, without BatchNorm's statistics."""
    return sum(value.numel() for name, value in tensors.items() if not name.endswith(_STATISTICS))


def _first_convolution(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the weight of the first convolution; None if there is none.

    safetensors files are not in the network's order, so that weights for colour pictures, and weights outside of
    numbered blocks, come first.
    """
    convolutions = [name for name, value in tensors.items() if value.ndim == 4]
    return min(
        convolutions,
        key=lambda name: (tensors[name].shape[1] != 3, any(part.isdigit() for part in name.split("."))),
        default=None,
    )


def _classifiers(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Return numbers of classes and features of layers outside of blocks that are named like a classifier."""
    found: dict[str, tuple[int, int]] = {}
    for name, value in tensors.items():
        module, _, kind = name.rpartition(".")
        path = module.split(".")
        start = next((i for i, part in enumerate(path) if part in _CLASSIFIERS), None)
        in_block = start is not None and any(part.isdigit() for part in path[:start])
        if start is None or in_block or kind != "weight" or value.ndim < 2 or math.prod(value.shape[2:]) != 1:
            continue
        found[module] = (value.shape[0], value.shape[1])
    return found


def _verdict(held: dict[Any, Any], backbone: TimmBackbone) -> str:
    """Return whether and how a file fits a backbone, or what differs."""
    found = complete(held, backbone.network)
    if not found or found[0].difference:
        if backbone.name == vggface2.NETWORK and _can_be_imported(held):
            return "fits after fer weights import FILE --to DIR"
        closest = found[0] if found else compare_closest(held, backbone.network)
        return f"does not fit: {closest.difference}"
    if len(found) > 1:
        parts = [fit.part.name or "the file's own tensors" for fit in found]
        return f"{len(found)} parts fit, with different weights: {listed(parts, 8)}; see fer weights extract"
    summary = found[0].summary(held)
    return f"fits{summary and f': {summary}'}"


def _can_be_imported(held: dict[Any, Any]) -> bool:
    try:
        vggface2.convert(vggface2.find(held, "FILE").tensors, "FILE")
    except UserError:
        return False
    return True

"""State_dicts in files: read without running code in them, and checked against a network."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from fer_lightning.core.errors import UserError

log = logging.getLogger(__name__)

_BEFORE_ZIP = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)  # files of torch.save before 1.6


def is_safetensors(content: bytes) -> bool:
    """Return whether bytes begin like a safetensors file: with a length of less than 4 GiB, then JSON."""
    return content[4:9] == b"\0\0\0\0{"


def is_torch(content: bytes) -> bool:
    """Return whether bytes begin like a file of torch.save."""
    return content.startswith((b"PK\x03\x04", _BEFORE_ZIP))


def read_bytes(path: Path, label: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        UserError: the file cannot be read; the message begins with ``label``.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else f"cannot be read: {error.strerror}"
        raise UserError(f"{label}: {reason}; give the path of a local file") from error


def read_state_dict(content: bytes, label: str) -> dict[str, Tensor]:
    """Return the tensors in a safetensors or PyTorch file by name, without running code in it.

    Args:
        content: the file's bytes.
        label: the file's name; messages begin with it.

    Raises:
        UserError: the bytes are damaged, or hold anything but tensors by name.
    """
    if not is_safetensors(content) and not is_torch(content):
        raise UserError(f"{label}: is neither a safetensors nor a PyTorch file, or not a whole one")
    try:
        if is_safetensors(content):
            return load(content)
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise exceptions of all types
        raise UserError(f"{label}: {_reason(error)}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"{label}: holds something else than tensors by name (a state_dict)")
    return state


def _reason(error: Exception) -> str:
    # torch has no type for a refused name, only a message
    if match := re.search(r"GLOBAL (\S+)", str(error)):
        return f"refused: it names {match[1]}, which is no tensor; nothing was run"
    if isinstance(error, pickle.UnpicklingError):  # torch's message would explain how to run the file's code
        return "not a whole file of tensors only; nothing was run"
    return f"not a whole file of tensors only: {(str(error) or type(error).__name__).splitlines()[0]}"


def require_fit(given: Mapping[str, Tensor], needed: Mapping[str, Tensor], label: str, advice: str) -> None:
    """Refuse tensors whose names and shapes differ from those that are needed.

    Args:
        given: the tensors of a file.
        needed: tensors with the names and shapes of the network.
        label: the file; the message begins with it.
        advice: the end of the message.

    Raises:
        UserError: names or shapes differ; the message lists up to three of them.
    """
    missing = sorted(needed.keys() - given.keys())
    unknown = sorted(given.keys() - needed.keys())
    shapes = [
        f"{name} is {tuple(given[name].shape)}, needed {tuple(needed[name].shape)}"
        for name in sorted(needed.keys() & given.keys())
        if given[name].shape != needed[name].shape
    ]
    for verb, names in (("lacks", missing), ("has unknown", unknown), ("has other shapes:", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{label}: the file {verb} {', '.join(names[:3])}{more}; {advice}")


def load_weights(network: nn.Module, path: Path) -> str:
    """Load a local state_dict (safetensors, pth or pt) strictly.

    If the network has no classifier, that of the file is left out, which is logged.

    Args:
        network: a network of timm's, with or without its classifier.
        path: path of the file.

    Returns:
        The SHA-256 of the file.

    Raises:
        UserError: the file cannot be read, is no state_dict, names code, or does not fit; the message lists keys.
    """
    label = f"backbone.weights={path}"
    content = read_bytes(path, label)
    state, needed = read_state_dict(content, label), network.state_dict()
    for classifier in _classifiers(network):
        module = _whole_head(classifier, needed)
        names = {name for name in state.keys() - needed.keys() if name.startswith(f"{module}.")}
        if names:
            weight = state.get(f"{classifier}.weight")
            classes = "" if weight is None else f" of {weight.shape[:1].numel()} classes"
            log.info("%s: its classifier, %s%s, is left out", label, module, classes)
        state = {name: value for name, value in state.items() if name not in names}
    advice = "give the state_dict of exactly this network"
    require_fit(state, needed, f"{label}: these weights do not fit the backbone", advice)
    network.load_state_dict(state)
    return hashlib.sha256(content).hexdigest()


def _classifiers(network: nn.Module) -> list[str]:
    """Return the names of a timm network's classifiers: none, one, or several."""
    named: Any = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or []
    return [named] if isinstance(named, str) else list(named)


def _whole_head(classifier: str, needed: Mapping[str, Tensor]) -> str:
    """Return the module around a classifier, ``head`` for ``head.linear``, if the network has no part of it."""
    parent = classifier.rpartition(".")[0]
    return parent if parent and not any(name.startswith(f"{parent}.") for name in needed) else classifier

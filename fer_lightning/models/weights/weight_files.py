"""State_dicts in files: read without running anything, and held against the network they are for."""

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

_BEFORE_ZIP = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)  # how torch.save began until 1.6


def is_safetensors(content: bytes) -> bool:
    """Whether bytes begin as safetensors do: a length of less than 4 GiB, then JSON."""
    return content[4:9] == b"\0\0\0\0{"


def is_torch(content: bytes) -> bool:
    """Whether bytes begin as torch.save's do."""
    return content.startswith((b"PK\x03\x04", _BEFORE_ZIP))


def read_bytes(path: Path, what: str) -> bytes:
    """A file's bytes.

    Raises:
        UserError: it cannot be read; the message begins with ``what``.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        missing = not path.exists()
        reason = "no such file" if missing else f"cannot be read: {error.strerror}"
        raise UserError(f"{what}: {reason}; give the path of a local file") from error


def read_state_dict(content: bytes, what: str) -> dict[str, Tensor]:
    """Tensors by name from the bytes of a safetensors or PyTorch file; nothing in them is run.

    Raises:
        UserError: they are damaged, or hold anything but tensors by name; the message begins with ``what``.
    """
    if not is_safetensors(content) and not is_torch(content):
        raise UserError(f"{what}: is neither a safetensors nor a PyTorch file, or not a whole one")
    try:
        if is_safetensors(content):
            return load(content)
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes fail in any way
        raise UserError(f"{what}: {_reason(error)}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"{what}: holds something else than tensors by name (a state_dict)")
    return state


def _reason(error: Exception) -> str:
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"refused: it names {named[1]}, which is no tensor; nothing was run"
    if isinstance(error, pickle.UnpicklingError):  # what torch says then is how to run the file's code
        return "not a whole file of tensors only; nothing was run"
    return f"not a whole file of tensors only: {(str(error) or type(error).__name__).splitlines()[0]}"


def require_fit(given: Mapping[str, Tensor], needed: Mapping[str, Tensor], what: str, advice: str) -> None:
    """Hold the names and shapes of tensors against those that are needed.

    Raises:
        UserError: they differ; the message begins with ``what``, names up to three and ends with ``advice``.
    """
    missing = sorted(needed.keys() - given.keys())
    unknown = sorted(given.keys() - needed.keys())
    shapes = [
        f"{name} is {tuple(given[name].shape)}, needed {tuple(needed[name].shape)}"
        for name in sorted(needed.keys() & given.keys())
        if given[name].shape != needed[name].shape
    ]
    for said, names in (("lacks", missing), ("has unknown", unknown), ("has other shapes:", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{what}: the file {said} {', '.join(names[:3])}{more}; {advice}")


def load_weights(network: nn.Module, path: Path) -> str:
    """Load a local state_dict (safetensors, pth or pt) strictly. Returns the SHA-256 of the file.

    A classifier that the network was made without is left out, and that is logged.

    Args:
        network: timm's, made with or without its classifier.
        path: of the file.

    Raises:
        UserError: the file cannot be read, is no state_dict, carries code, or does not fit; it names keys.
    """
    what = f"backbone.weights={path}"
    content = read_bytes(path, what)
    state, needed = read_state_dict(content, what), network.state_dict()
    for classifier in _classifiers(network):
        module = _whole(classifier, needed)
        names = {name for name in state.keys() - needed.keys() if name.startswith(f"{module}.")}
        if names:
            weight = state.get(f"{classifier}.weight")
            classes = "" if weight is None else f" of {weight.shape[:1].numel()} classes"
            log.info("%s: its classifier, %s%s, is left out", what, module, classes)
        state = {name: value for name, value in state.items() if name not in names}
    advice = "give the state_dict of exactly this network"
    require_fit(state, needed, f"{what}: these weights do not fit the backbone", advice)
    network.load_state_dict(state)
    return hashlib.sha256(content).hexdigest()


def _classifiers(network: nn.Module) -> list[str]:
    """Names of a timm network's last layers: none, one, or several."""
    named: Any = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or []
    return [named] if isinstance(named, str) else list(named)


def _whole(classifier: str, needed: Mapping[str, Tensor]) -> str:
    """``head`` of ``head.linear`` where the network has nothing of ``head``: what lies beside it belongs to it."""
    above = classifier.rpartition(".")[0]
    return above if above and not any(name.startswith(f"{above}.") for name in needed) else classifier

"""Weights files: read without running code in them, and loaded into a network that they fit."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import nn

from fer_lightning.core.errors import UserError
from fer_lightning.models.weights.fit import require_one
from fer_lightning.models.weights.numpy_pickle import read_arrays
from fer_lightning.models.weights.stand_ins import STAND_INS
from fer_lightning.models.weights.unwrap import listed, state_dicts

ABOUT = "fer_lightning"
"""Only key of the metadata of files that are written: safetensors writes several in any order."""

log = logging.getLogger(__name__)

_ZIP = b"PK\x03\x04"
_BEFORE_ZIP = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)  # files of torch.save before 1.6


def is_safetensors(content: bytes) -> bool:
    """Return whether bytes begin like a safetensors file: with a length of less than 4 GiB, then JSON."""
    return content[4:9] == b"\0\0\0\0{"


def is_torch(content: bytes) -> bool:
    """Return whether bytes begin like a file of torch.save."""
    return content.startswith((_ZIP, _BEFORE_ZIP))


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


def file_kind(content: bytes) -> str:
    """Return the kind of a weights file, for messages; empty for an unknown one."""
    if is_safetensors(content):
        return "safetensors"
    if content.startswith(_ZIP):
        return "PyTorch (zip)"
    return "PyTorch before 1.6" if is_torch(content) else ""


def read_content(content: bytes, label: str) -> dict[Any, Any]:
    """Return what a safetensors or PyTorch file holds, without running code in it.

    Args:
        content: the file's bytes.
        label: the file's name; messages begin with it.

    Returns:
        Tensors by name, or a dictionary with such dictionaries and other values in it. Objects beside tensors that
        checkpoints often hold, such as arguments of a training, are replaced by stand-ins.

    Raises:
        UserError: the bytes are damaged, hold no tensors by name, or name code.
    """
    if not is_safetensors(content) and not is_torch(content):
        raise UserError(f"{label}: is neither a safetensors nor a PyTorch file, or not a whole one")
    try:
        damaged = zipfile.ZipFile(BytesIO(content)).testzip() if content.startswith(_ZIP) else None
        state = load(content) if is_safetensors(content) else _load_torch(content)
    except Exception as error:  # damaged bytes raise exceptions of all types
        raise UserError(f"{label}: {_reason(error)}") from error
    if damaged is not None:  # PyTorch itself would load it, with other weights
        raise UserError(f"{label}: is damaged: the checksum of {damaged} in it is wrong; copy the file again")
    if not isinstance(state, dict) or not state_dicts(state):
        held = (
            f"a dictionary of {listed(map(str, state))}"
            if isinstance(state, dict)
            else f"a {type(state).__name__}"
        )
        raise UserError(f"{label}: holds something else than tensors by name (a state_dict): {held}")
    return state


def read_published(content: bytes, label: str) -> dict[Any, Any]:
    """Return what a pickle of arrays, a PyTorch or a safetensors file holds, without running its code.

    Args:
        content: the file's bytes.
        label: the file's name; messages begin with it.

    Raises:
        UserError: see ``read_arrays`` and ``read_content``.
    """
    return read_content(content, label) if file_kind(content) else _tensors(read_arrays(content, label))


def _tensors(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return arrays of dictionaries, one in the other, as tensors, and other values as they are."""
    made: dict[str, Any] = {}
    for name, value in arrays.items():
        if isinstance(value, np.ndarray):
            value = torch.tensor(value.astype(np.float32 if value.dtype.kind == "f" else np.int64))
        made[name] = _tensors(value) if isinstance(value, dict) else value
    return made


def _load_torch(content: bytes) -> Any:
    with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors that no network here has
        return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    # torch has no types for its refusals, only messages
    if match := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"refused: it names {match[1]}, which is no tensor; nothing was run; "
            "where you trust the file, save only the network's state_dict() from it"
        )
    if "TorchScript" in str(error):
        return "refused: it is a TorchScript program; nothing was run; save its state_dict()"
    if isinstance(error, pickle.UnpicklingError):  # torch's message would explain how to run the file's code
        return "not a whole file of tensors only; nothing was run"
    return f"not a whole file of tensors only: {(str(error) or type(error).__name__).splitlines()[0]}"


def load_weights(network: nn.Module, path: Path) -> str:
    """Load the network's tensors from a local file (safetensors, pth or pt), which must fit in names and shapes.

    They may lie below wrapping keys and behind a prefix. That, and what is left out, is logged.

    Args:
        network: a network of timm's, with or without its classifier.
        path: path of the file.

    Returns:
        The SHA-256 of the file.

    Raises:
        UserError: the file cannot be read, holds no tensors, names code, or does not fit; the message lists keys.
    """
    label = f"backbone.weights={path}"
    content = read_bytes(path, label)
    held = read_content(content, label)
    fit = require_one(held, network, label)
    if summary := fit.summary(held):
        log.info("%s: %s", label, summary)
    network.load_state_dict(fit.state)
    return hashlib.sha256(content).hexdigest()

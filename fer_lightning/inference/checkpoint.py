"""Checkpoints as files of a model: sealed with a hash when they are written, and checked when they are read."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import require_checkpoint, user_path, write_atomic

log = logging.getLogger(__name__)

VERSION = 1
"""Version of the files of a model; checkpoints from before there was one have none."""

CARD, SEAL, CORRECTIONS = "fer_lightning", "fer_lightning_seal", "fer_lightning_corrections"
"""Keys of a checkpoint: its card, the version of the file with the hash of the weights, and fitted corrections."""

_ZIP = b"PK\x03\x04"
_PREFIX = "network."

Corrections = dict[str, dict[str, float]]
"""Fitted numbers by the name of a correction, such as ``{"temperature": {"temperature": 1.3}}``."""


class Stored(NamedTuple):
    """What the file of a model holds.

    Attributes:
        card: description of the network.
        weights: its parameters and buffers by name.
        corrections: fitted numbers of the corrections.
    """

    card: dict[str, Any]
    weights: dict[str, Tensor]
    corrections: Corrections


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {[*value.shape]}\n".encode())
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()


def network_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the network by their names in it, from the state of the module that trained it."""
    return {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}


def seal(checkpoint: dict[str, Any]) -> None:
    """Add the version of the file and the hash of its weights to a checkpoint that is complete."""
    digest = weights_hash(network_weights(checkpoint["state_dict"]))
    checkpoint[SEAL] = {"version": VERSION, "weights": digest}


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all, by way of memory: torch's error on a full disk is like any other."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_atomic(path, buffer.getbuffer())


def keep_corrections(path: Path, corrections: Corrections) -> None:
    """Add fitted corrections to a checkpoint, and leave everything else in it as it is."""
    checkpoint = read_checkpoint(path)
    checkpoint[CORRECTIONS] = corrections
    write_checkpoint(checkpoint, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint; no code in the file is run.

    Raises:
        UserError: the file does not exist, is damaged, names code, or was not written by this project.
    """
    path = user_path(path)
    require_checkpoint(path)
    label = f"checkpoint {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{label}: cannot be read: {error.strerror}") from error
    if not content.startswith(_ZIP):
        raise UserError(f"{label}: {_other_kind(content, path)}; give the path of a run's best.ckpt")
    try:
        damaged = _damaged(content)
        checkpoint = None if damaged else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{label}: refused: it holds more than tensors and plain values, loading it could run code"
        ) from error
    except Exception as error:  # damaged bytes raise exceptions of all types
        raise UserError(f"{label}: cannot be read: {one_line(error)}") from error
    if damaged:  # torch itself would load it, with other weights
        raise UserError(f"{label}: is damaged at {damaged}: copy the file again")
    if not isinstance(checkpoint, dict) or CARD not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"{label}: was not written by fer; give the path of a run's best.ckpt")
    return checkpoint


def read_model(path: Path) -> Stored:
    """Return the card, the weights and the corrections in a checkpoint, whose hash is checked.

    Raises:
        UserError: see ``read_checkpoint``; or the checkpoint is of a newer version, was altered, or is the state
            of an interrupted run.
    """
    label, checkpoint = f"checkpoint {path}", read_checkpoint(path)
    if "optimizer_states" in checkpoint:
        raise UserError(f"{label}: is the state of an interrupted run and no model; give the run's best.ckpt")
    state = checkpoint["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise UserError(f"{label}: its state_dict holds no weights by name")
    weights, given = network_weights(state), checkpoint.get(SEAL)
    if given is None:
        log.warning("%s: from before files of a model had a version: its weights cannot be checked", label)
    else:
        require_version(given.get("version") if isinstance(given, dict) else None, label)
    require_sound(weights, label, None if given is None else given.get("weights", ""))
    return Stored(checkpoint[CARD], weights, checkpoint.get(CORRECTIONS, {}))


def require_version(version: Any, label: str) -> None:
    """Refuse a file of a model whose version is not known.

    Raises:
        UserError: it is no number, or newer than this package.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError(f"{label}: is damaged: {version!r:.40} is no version of a model's file")
    if version > VERSION:
        raise UserError(
            f"{label}: written in version {version}, and this fer_lightning reads up to version {VERSION}: "
            "install a newer one"
        )


def require_sound(weights: Mapping[str, Any], label: str, digest: Any) -> None:
    """Refuse weights that are not the ones that were written, or with which nothing can be computed.

    Args:
        weights: tensors by name.
        label: the file's name; messages begin with it.
        digest: ``weights_hash`` of what was written; None: not known.

    Raises:
        UserError: there are none, one is no ordinary tensor or not finite, or they do not have that hash.
    """
    if not weights:
        raise UserError(f"{label}: holds no weights of a network")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise UserError(f"{label}: its weight {name} is no ordinary tensor")
    try:
        changed = digest is not None and weights_hash(weights) != digest
        broken = next((name for name, value in weights.items() if not value.isfinite().all()), None)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # kinds of tensors that no network has
        raise UserError(f"{label}: its weights are no ordinary tensors: {one_line(error)}") from error
    if changed:
        raise UserError(f"{label}: its weights are not the ones that were written: copy the file again")
    if broken is not None:
        raise UserError(f"{label}: its weight {broken} has values that are not finite; it cannot predict")


def one_line(error: Exception) -> str:
    """Return the beginning of an exception's message, in one line."""
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _damaged(content: bytes) -> str | None:
    """Return the first part of a zip file whose checksum is wrong; None: all are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            return "its list of parts"  # torch compresses none, and a small file could unpack to a huge one
        return archive.testzip()


def _other_kind(content: bytes, path: Path) -> str:
    """Return what a file is that is no checkpoint, for messages."""
    if not content:
        return "is empty"
    if path.suffix == ".onnx":
        return "is an ONNX model and no checkpoint"
    return "is no checkpoint, or not a whole one"

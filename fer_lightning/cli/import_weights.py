"""Convert published face-recognition weights into a file for ``backbone.weights``; imported by ``fer weights``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import write_atomic
from fer_lightning.models.weights import vggface2
from fer_lightning.models.weights.numpy_pickle import read_arrays
from fer_lightning.models.weights.vggface2 import Converted, convert
from fer_lightning.models.weights.weight_files import is_safetensors, is_torch, read_bytes, read_state_dict

BACKBONE = "seresnet50_vggface2"
ABOUT = "fer_lightning"
"""Only key of the file's metadata: safetensors writes several keys in an order that differs from run to run."""

LICENCE = (
    "VGGFace2's weights have terms of their own, research use as their publishers state; nothing is granted here"
)


def import_weights(source: Path, target: Path, sha256: str | None = None) -> None:
    """Convert a file of published weights, and print what was converted and left out.

    Args:
        source: the file as published.
        target: the converted file.
        sha256: the SHA-256 that the published file must have, in hex digits; None accepts any file.

    Raises:
        UserError: the user can mend it; nothing has been written.
    """
    content = read_bytes(source, str(source))
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None:
        _require_digest(source, digest, sha256)
    if _is_converted(target, digest):
        print(f"{target} exists already, made from the same file")
    else:
        converted = convert(read_published(content, str(source)), str(source))
        _write(target, converted, source.name, digest)
        print(target)
        print(f"  layout: {converted.layout.title}, {converted.layout.colour}")
        print(f"  left out: {_left_out(converted)}")
    print(f"  source: {source}, SHA-256 {digest}")
    print(f"  licence: {LICENCE}")
    print(f"  next: fer train backbone={BACKBONE} backbone.weights={target}")


def read_published(content: bytes, label: str) -> dict[str, Tensor]:
    """Return the tensors in a pickle of arrays, a PyTorch or a safetensors file by name, without running its code.

    Args:
        content: the file's bytes.
        label: the file's name; messages begin with it.

    Raises:
        UserError: see ``read_arrays`` and ``read_state_dict``.
    """
    if is_safetensors(content) or is_torch(content):
        return read_state_dict(content, label)
    arrays = read_arrays(content, label)
    return {
        name: torch.tensor(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
        for name, array in arrays.items()
    }


def _require_digest(source: Path, digest: str, sha256: str) -> None:
    expected = sha256.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise UserError(f"--sha256 {sha256}: give the 64 hex digits of the file's SHA-256")
    if expected != digest:
        raise UserError(f"{source}: its SHA-256 is {digest}, not {expected}: another file, or a damaged copy")


def _is_converted(target: Path, digest: str) -> bool:
    """Return whether the target exists and was converted from the same source.

    Raises:
        UserError: it is another file, which is not overwritten.
    """
    if not target.exists():
        return False
    try:
        with safe_open(target, framework="pt") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
        same: bool = about["source_sha256"] == digest
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(f"{target} holds something else and is not overwritten; give another folder with --to")
    return True


def _write(target: Path, converted: Converted, source: str, digest: str) -> None:
    about = {
        "network": vggface2.NETWORK,
        "source": source,
        "source_sha256": digest,
        "source_layout": converted.layout.title,
        "colour": "RGB",
        "mean": [value / 255 for value in vggface2.MEAN],
        "std": [1 / 255] * 3,
        "faces": "a detector's box grown by 0.3, short side 256, middle 224",
        "licence": LICENCE,
    }
    try:
        write_atomic(target, save(converted.state, {ABOUT: json.dumps(about, sort_keys=True)}))
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}; give another folder with --to") from error


def _left_out(converted: Converted) -> str:
    if len(converted.left_out) == 2:
        return "{}, an embedding layer, and {}, the classifier that reads from it".format(*converted.left_out)
    return ", ".join(f"{layer}, an embedding layer" for layer in converted.left_out) or "nothing"

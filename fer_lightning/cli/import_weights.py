"""Convert published face-recognition weights into a file for ``backbone.weights``; imported by ``fer weights``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import write_atomic
from fer_lightning.models.weights import vggface2
from fer_lightning.models.weights.vggface2 import Converted, convert
from fer_lightning.models.weights.weight_files import ABOUT, read_bytes, read_published

BACKBONE = "seresnet50_vggface2"
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
        published = read_published(content, str(source))
        part = vggface2.find(published, str(source))
        converted = convert(part.tensors, f"{source}, {part.name}" if part.name else str(source))
        _write(target, converted, source.name, digest)
        print(target)
        print(f"  layout: {converted.layout.title}, {converted.layout.colour}")
        if part.origin:
            print(f"  {part.origin}")
        print(f"  left out: {', '.join([*_left_out(converted), *part.others(published)]) or 'nothing'}")
    print(f"  source: {source}, SHA-256 {digest}")
    print(f"  licence: {LICENCE}")
    print(f"  next: fer train backbone={BACKBONE} backbone.weights={target}")


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


def _left_out(converted: Converted) -> list[str]:
    roles = ("an embedding layer", "the classifier that reads from it")
    return [f"{layer}, {role}" for layer, role in zip(converted.left_out, roles, strict=False)]

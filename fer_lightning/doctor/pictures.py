"""A look at one picture: whether it can be used, what is odd about it, and what it looks like."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from fer_lightning.data import MAX_PIXELS
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.near_copies import SIDE, thumbnail
from fer_lightning.data.store.crop import (
    Box,
    Pixels,
    UnusableError,
    content,
    cut_out,
    decode,
    digest,
    require_inside,
    resize,
)

Image.MAX_IMAGE_PIXELS = None  # Pillow reads only headers here, and our own limit is MAX_PIXELS

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Endings of file names by format, under Pillow's names; files of other formats are not examined by Pillow."""

TINY = 32
_GREY = 2  # largest difference of two channels in a grey picture, of 255

Odd = tuple[str, str]
"""Kind of a fault and its detail."""


@dataclass(frozen=True)
class Faces:
    """Faces to look at: their files or their bytes, boxes (None: the whole picture), and margin.

    Links may not lead out of ``links_within``; None: they are followed.
    """

    links_within: Path | None
    pictures: Sequence[Path | bytes]
    boxes: Sequence[Box | None]
    margin: float


def faces(manifest: Manifest, chunks: Sequence[pa.Table], margin: float) -> Iterator[Faces]:
    """Yield the faces of each chunk of rows; the rows belong to one split and follow the manifest's order."""
    pictures = manifest.pictures([path for chunk in chunks for path in chunk["path"].to_pylist()])
    for chunk in chunks:
        yield Faces(manifest.links_within, list(islice(pictures, len(chunk))), _boxes(chunk), margin)


def _boxes(chunk: pa.Table) -> list[Box | None]:
    columns = [chunk[name].to_pylist() for name in ("x", "y", "width", "height")]
    return [None if None in box else box for box in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Look:
    """The result of a look at a face.

    Attributes:
        odd: faults; an unusable face has one, and defaults for everything else.
        digest: digest of the face's pixels before resizing, which ``fer prepare`` compares; "" if unusable.
        looks: hash of 64 bits, most of which are equal for pictures that look alike.
        thumb: (THUMB, THUMB) grey values as bytes; empty where there is nothing to compare.
        grey: whether the face has no colours.
    """

    odd: tuple[Odd, ...]
    digest: str = ""
    looks: int = 0
    thumb: bytes = b""
    grey: bool = False


def look_at_all(faces: Faces) -> list[Look]:
    """Look at each of the faces, in order; never raises because of a picture."""
    looks = []
    for picture, box in zip(faces.pictures, faces.boxes, strict=True):
        try:
            require_inside(faces.links_within, picture)
            looks.append(look(picture, box, faces.margin))
        except UnusableError as error:
            looks.append(Look(((error.kind, error.detail),)))
    return looks


def look(picture: Path | bytes, box: Box | None, margin: float) -> Look:
    """Look at one face.

    Args:
        picture: the picture's file, or the file's bytes.
        box: x, y, width, height in pixels; None takes the whole picture as the face.
        margin: share of its size by which the box grows on each side.

    Raises:
        UnusableError: the face cannot be used.
    """
    data = content(picture)
    odd = list(_header(data, picture.suffix.lower() if isinstance(picture, Path) else None))
    pixels = decode(data)
    face = cut_out(pixels, box, margin)
    odd += _size(pixels, box)
    small = resize(face, SIDE)
    looks, thumb = thumbnail(small)
    return Look(
        odd=tuple(odd),
        digest=digest(face),
        looks=looks,
        thumb=thumb,
        grey=bool(np.ptp(small.astype(np.int16), axis=2).max() <= _GREY),
    )


def _header(data: bytes, suffix: str | None) -> Iterator[Odd]:
    """Yield the faults that a picture's header shows, before anything is decoded.

    Raises:
        UnusableError: "too_large".
    """
    try:
        opened = Image.open(io.BytesIO(data), formats=list(SUFFIXES))
    except Exception:  # a damaged header makes Pillow raise nearly anything; the decoder decides
        return
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise UnusableError("too_large", f"{width} x {height} pixels")
    if suffix and suffix not in SUFFIXES.get(opened.format or "", (suffix,)):
        yield "wrong_extension", f"it is {opened.format}"
    if ";16" in str(opened.tile[0].args if opened.tile else ""):  # the raw mode of the pixels
        yield "unusual_format", "16 bits a channel"
    elif opened.mode in ("CMYK", "LAB", "F", "I"):
        yield "unusual_format", opened.mode


def _size(picture: Pixels, box: Box | None) -> Iterator[Odd]:
    """Yield the faults of the face's size and position."""
    tall, wide = picture.shape[:2]
    x, y, width, height = box or (0, 0, wide, tall)
    detail = f"box {x}, {y}, {width}, {height} in a {wide} x {tall} picture" if box else f"{wide} x {tall} pixels"
    if min(width, height) < TINY:
        yield "tiny_face", detail
    if x < 0 or y < 0 or x + width > wide or y + height > tall:
        yield "box_clipped", detail

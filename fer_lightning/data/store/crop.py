"""From a picture's file to the stored bytes of its face: decode, crop, resize, encode."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pydantic.dataclasses
from numpy.typing import NDArray

from fer_lightning.core.ranges import Margin, Side
from fer_lightning.data import MAX_PIXELS

MAX_BYTES = 8 * MAX_PIXELS  # that many pixels in the largest format, with 16 bits per channel

Pixels = NDArray[np.uint8]
Codec = Literal["jpeg", "png", "raw"]
Box = tuple[int, int, int, int]

RESIZE = "central-square-area-down-cubic-up"
JPEG_QUALITY = 95
PREALLOCATED = 2**24


class UnusableError(Exception):
    """A picture that cannot be used; ``kind`` is the kind of fault, ``detail`` its description."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


@pydantic.dataclasses.dataclass(frozen=True)
class Recipe:
    """How a face is cut out and encoded: the box grown by the margin, then its central square resized to ``size``.

    Args:
        size: side of the stored square picture, in pixels.
        margin: share of the box's width and height by which it grows on each side.
        codec: "jpeg" (quality 95), "png" or "raw" (size * size * 3 bytes, RGB).

    Raises:
        ValueError: a number out of range or an unknown codec.
    """

    size: Side
    margin: Margin
    codec: Codec


@dataclass(frozen=True)
class Crop:
    """A face for the store.

    Attributes:
        image: encoded bytes.
        pixels: digest of its pixels before resizing.
        looks: hash of 64 bits, most of which are equal for faces that look alike.
        thumb: small grey picture to compare, see ``near_copies.thumbnail``.
    """

    image: bytes
    pixels: str
    looks: int
    thumb: bytes


def start_worker() -> None:
    """Set up a worker process: one thread, no output, and an end when its parent ends."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # a picture that cannot be decoded becomes a fault with its name
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    bytearray(PREALLOCATED)  # freed at once; glibc then keeps that much instead of requesting it for each picture
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent: a killed one cannot stop its workers, which would wait for work for ever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def crop(picture: Path | bytes, root: Path | None, box: Box | None, recipe: Recipe) -> Crop:
    """Cut out and encode a face.

    Args:
        picture: the picture's file, or the file's bytes.
        root: folder of the data set; a file outside of it, reached by a link, is not read. None: it is.
        box: x, y, width, height in pixels; None takes the whole picture as the face.
        recipe: margin, size and codec.

    Raises:
        UnusableError: "outside_root", "missing", "zero_byte", "too_large", "unreadable" or "box_outside".
    """
    from fer_lightning.data import near_copies  # who only cuts faces out needs no SciPy

    require_inside(root, picture)
    face = cut_out(decode(picture), box, recipe.margin)
    image = encode(resize(central_square(face), recipe.size), recipe.codec)
    return Crop(image, digest(face), *near_copies.thumbnail(resize(face, near_copies.SIDE)))


def require_inside(root: Path | None, picture: Path | bytes) -> None:
    """Refuse a picture's file that a link leads out of the data set's folder; None: links are followed.

    Raises:
        UnusableError: "outside_root".
    """
    from fer_lightning.data.manifest import LINK_OUT, inside  # who only cuts faces out needs no Arrow

    if root and isinstance(picture, Path) and "\0" not in str(picture) and not inside(root, picture):
        raise UnusableError("outside_root", LINK_OUT)


def content(picture: Path | bytes) -> bytes:
    """Return the bytes of a picture's file.

    Raises:
        UnusableError: "missing", "zero_byte", "too_large" or "unreadable".
    """
    if isinstance(picture, Path):
        picture = _read(picture)
    if not picture:
        raise UnusableError("zero_byte", "the file is empty")
    return picture


def _read(file: Path) -> bytes:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UnusableError("unreadable", "not a file")
        if status.st_size > MAX_BYTES:
            raise UnusableError("too_large", f"{status.st_size} bytes")
        return file.read_bytes()
    except (FileNotFoundError, ValueError):  # ValueError: the name contains a zero byte
        raise UnusableError("missing", "no such file") from None
    except OSError as error:
        raise UnusableError("unreadable", error.strerror or str(error)) from None


def decode(picture: Path | bytes) -> Pixels:
    """Decode a picture file, or its bytes, to (H, W, 3) BGR; grey pictures get three equal channels.

    Raises:
        UnusableError: "missing", "zero_byte", "too_large" or "unreadable".
    """
    data = np.frombuffer(content(picture), np.uint8)
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        raise UnusableError("unreadable", str(error).strip()[:200]) from None
    if decoded is None:
        raise UnusableError("unreadable", f"not a picture, broken, or over {MAX_PIXELS} pixels")
    return np.asarray(decoded, np.uint8)


def cut_out(picture: Pixels, box: Box | None, margin: float) -> Pixels:
    """Return the part of a picture inside ``box``, grown by ``margin`` and clipped to the picture.

    Args:
        picture: (H, W, 3).
        box: x, y, width, height in pixels; None takes the whole picture, which cannot grow.
        margin: share of the box's width (height) added left and right (above and below).

    Raises:
        UnusableError: "box_outside": the box, before it is grown, has no pixel of the picture.
    """
    if box is None:
        return picture
    x, y, width, height = box
    tall, wide = picture.shape[:2]
    if width <= 0 or height <= 0 or x >= wide or y >= tall or x + width <= 0 or y + height <= 0:
        raise UnusableError("box_outside", f"box {x}, {y}, {width}, {height} in a {wide} x {tall} picture")
    left, top = round(x - margin * width), round(y - margin * height)
    right, bottom = round(x + width + margin * width), round(y + height + margin * height)
    return picture[max(top, 0) : bottom, max(left, 0) : right]


def central_square(face: Pixels) -> Pixels:
    """Return the middle of a face (H, W, C) as a view (S, S, C), S being the shorter of H and W."""
    tall, wide = face.shape[:2]
    side = min(tall, wide)
    top, left = (tall - side) // 2, (wide - side) // 2
    return face[top : top + side, left : left + side]


def resize(face: Pixels, size: int) -> Pixels:
    """Resize a face to (size, size, C): by area to shrink it, cubic to enlarge it; other shapes are squashed."""
    if face.shape[:2] == (size, size):
        return face
    method = cv2.INTER_AREA if face.shape[0] > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (size, size), interpolation=method), np.uint8)


def encode(face: Pixels, codec: Codec) -> bytes:
    """Encode a (size, size, 3) BGR face; "raw" is RGB, the network's input."""
    if codec == "raw":
        return cv2.cvtColor(face, cv2.COLOR_BGR2RGB).tobytes()
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if codec == "jpeg" else []
    done, data = cv2.imencode(".jpg" if codec == "jpeg" else ".png", face, options)
    if not done:
        raise UnusableError("unreadable", f"it cannot be encoded as {codec}")
    return data.tobytes()


def digest(face: Pixels) -> str:
    """Return 32 hex digits that are equal for two faces if and only if their shape and every pixel are."""
    sha256 = hashlib.sha256(repr(face.shape).encode())
    sha256.update(np.ascontiguousarray(face).data)  # copies only if needed, since large copies are slow
    return sha256.hexdigest()[:32]

"""From a picture's file to the bytes kept of its face: decode, crop, resize, encode."""

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

import numpy as np
import pydantic.dataclasses
from numpy.typing import NDArray

MAX_PIXELS = 2**26  # a picture said to have more is a decompression bomb, not a photograph of a face
MAX_BYTES = 8 * MAX_PIXELS  # as many pixels in the largest format there is, 16 bits a channel
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # OpenCV reads it when it is loaded

import cv2  # noqa: E402

from fer_lightning.core.ranges import Margin, Side  # noqa: E402
from fer_lightning.data.manifest import inside  # noqa: E402

Pixels = NDArray[np.uint8]
Codec = Literal["jpeg", "png", "raw"]
Box = tuple[int, int, int, int]

RESIZE = "central-square-area-down-cubic-up"
JPEG_QUALITY = 95
KEPT_BYTES = 2**24


class UnusableError(Exception):
    """A picture that cannot be used; ``kind`` is one word, ``detail`` says more."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


@pydantic.dataclasses.dataclass(frozen=True)
class Recipe:
    """How a face is cut out and kept: its box, grown by the margin; of that the central square, at ``size``.

    Args:
        size: side of the square picture that is kept, in pixels.
        margin: share of the box's width and height that it is grown by on each side.
        codec: "jpeg" (quality 95), "png" or "raw" (size * size * 3 bytes, RGB).

    Raises:
        ValueError: a number out of range or an unknown codec.
    """

    size: Side
    margin: Margin
    codec: Codec


@dataclass(frozen=True)
class Crop:
    """A face as it is kept: encoded bytes, and the digest of its pixels before resizing."""

    image: bytes
    pixels: str


def start_worker() -> None:
    """Set a worker process up: one thread, silent, gone when its parent is gone."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # what cannot be decoded is told by name, as a fault
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    bytearray(KEPT_BYTES)  # freed again at once; glibc now keeps as much rather than fetch it for each picture
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """A killed parent cannot stop its workers; they would wait for work for ever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def crop(picture: Path | bytes, root: Path, box: Box | None, recipe: Recipe) -> Crop:
    """A face as it is kept.

    Args:
        picture: its file, or the file's bytes.
        root: a file that a link leads out of this folder is not read.
        box: x, y, width, height in pixels; None: the whole picture is the face.
        recipe: how.

    Raises:
        UnusableError: "outside_root", "missing", "zero_byte", "too_large", "unreadable" or "box_outside".
    """
    require_inside(root, picture)
    face = cut_out(decode(picture), box, recipe.margin)
    return Crop(encode(resize(central_square(face), recipe.size), recipe.codec), digest(face))


def require_inside(root: Path, picture: Path | bytes) -> None:
    """Raises UnusableError "outside_root" where a link leads a picture's file out of the data set's folder."""
    if isinstance(picture, Path) and "\0" not in str(picture) and not inside(root, picture):
        raise UnusableError("outside_root", "a link on its way leads out of the data set's folder")


def content(picture: Path | bytes) -> bytes:
    """The bytes of a picture's file.

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
        if not stat.S_ISREG(status.st_mode):  # to read a pipe is to wait for ever
            raise UnusableError("unreadable", "not a file")
        if status.st_size > MAX_BYTES:
            raise UnusableError("too_large", f"{status.st_size} bytes")
        return file.read_bytes()
    except (FileNotFoundError, ValueError):  # ValueError: there is a zero byte in the name
        raise UnusableError("missing", "no such file") from None
    except OSError as error:
        raise UnusableError("unreadable", error.strerror or str(error)) from None


def decode(picture: Path | bytes) -> Pixels:
    """A picture file, or its bytes, as (H, W, 3) BGR; grey ones get three equal channels.

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
    """The part of a picture inside ``box``, grown by ``margin`` and clipped to the picture.

    Args:
        picture: (H, W, 3).
        box: x, y, width, height in pixels; None is the whole picture, which cannot grow.
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
    """The middle of a face (H, W, C) as (S, S, C), S being the shorter of H and W; a view."""
    tall, wide = face.shape[:2]
    side = min(tall, wide)
    top, left = (tall - side) // 2, (wide - side) // 2
    return face[top : top + side, left : left + side]


def resize(face: Pixels, size: int) -> Pixels:
    """A face as (size, size, C), squashed where it is no square: by area to shrink it, cubic to let it grow."""
    if face.shape[:2] == (size, size):
        return face
    method = cv2.INTER_AREA if face.shape[0] > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (size, size), interpolation=method), np.uint8)


def encode(face: Pixels, codec: Codec) -> bytes:
    """A (size, size, 3) BGR face as bytes; "raw" is RGB, what the network gets."""
    if codec == "raw":
        return cv2.cvtColor(face, cv2.COLOR_BGR2RGB).tobytes()
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if codec == "jpeg" else []
    done, data = cv2.imencode(".jpg" if codec == "jpeg" else ".png", face, options)
    if not done:
        raise UnusableError("unreadable", f"it cannot be encoded as {codec}")
    return data.tobytes()


def digest(face: Pixels) -> str:
    """32 hex digits that are equal for two faces where shape and every pixel are."""
    found = hashlib.sha256(repr(face.shape).encode())
    found.update(np.ascontiguousarray(face).data)  # no copy where none is needed: large ones are slow to get
    return found.hexdigest()[:32]

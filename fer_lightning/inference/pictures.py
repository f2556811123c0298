"""Pictures of all kinds that a user may have, turned into what training reads from their files: BGR, 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.data import MAX_PIXELS
from fer_lightning.data.store.crop import Box, Pixels, UnusableError, content, decode

if TYPE_CHECKING:
    from torch import Tensor

Picture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any] | Tensor"
"""A path, a file's bytes, a PIL image, an RGB array (H, W[, 1 | 3 | 4]), or a uint8 tensor (1 | 3, H, W)."""

AnyBox: TypeAlias = "Sequence[float] | NDArray[Any] | Tensor"
"""x, y, width, height in pixels of the picture as it is shown."""

_LAST, _FIRST = (1, 3, 4), (1, 3)  # numbers of channels
_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WITHOUT_A_RULE = ("F", "LAB")


def is_tensor(value: object) -> bool:
    """Return whether a value is a tensor of torch, which need not be imported for that."""
    return hasattr(value, "detach") and hasattr(value, "layout")


def listed(pictures: Any) -> tuple[list[Any], bool]:
    """Return pictures as a list, and whether they were given as many.

    Args:
        pictures: one picture; or many, as a list or another iterable, or as one array or tensor (N, H, W,
            channels) or (N, channels, H, W).

    Raises:
        UserError: it is neither.
    """
    if isinstance(pictures, str | Path | bytes | Image.Image):
        return [pictures], False
    if isinstance(pictures, np.ndarray) or is_tensor(pictures):
        if pictures.ndim in (2, 3):
            return [pictures], False
        return [*_channels_last(pictures)], True
    if isinstance(pictures, Iterable) and not isinstance(pictures, dict):
        return [*pictures], True
    raise UserError(
        f"pictures: {type(pictures).__name__} is neither a path, a PIL image, an array or a tensor, nor a list"
    )


def _channels_last(batch: Any) -> NDArray[Any]:
    """Return a batch of pictures as (N, H, W, channels)."""
    array, shape = _array(batch, "pictures"), tuple(batch.shape)
    if array.ndim != 4:
        raise UserError(f"pictures: an array of shape {shape} is neither one picture nor a batch of them")
    last, first = shape[3] in _LAST, shape[1] in _FIRST
    if last == first:
        which = (
            "may be (N, H, W, channels) or (N, channels, H, W)" if last else "has no axis of 1, 3 or 4 channels"
        )
        raise UserError(f"pictures: a batch of shape {shape} {which}; give a list of pictures")
    return array if last else np.moveaxis(array, 1, 3)


def _array(value: Any, label: str) -> NDArray[Any]:
    """Return an array, or the values of a tensor on any device."""
    if not is_tensor(value):
        return np.asarray(value)
    if value.device.type == "meta":
        raise UserError(f"{label}: a tensor on the meta device has no pixels")
    return np.asarray(value.detach().cpu().numpy())


def read(picture: Any, label: str) -> Pixels:
    """Return a picture as (H, W, 3) BGR, as training decodes a file of it.

    Paths and bytes are decoded as in training. In all else, as in a PNG file, grey becomes three equal channels,
    alpha is dropped, and of 16 bits the upper 8 are kept; a PIL image is turned as its EXIF orientation says.

    Args:
        picture: see ``Picture``.
        label: name of the picture; messages begin with it.

    Raises:
        UserError: it cannot be decoded, is of another type or shape, or has more than MAX_PIXELS pixels.
    """
    if isinstance(picture, str | Path | bytes):
        return _decoded(picture, label)
    if isinstance(picture, Image.Image):
        _require_size(*picture.size, label)
        return _bgr(_of_pil(picture, label), label)
    if is_tensor(picture):
        shape = tuple(picture.shape)
        if len(shape) == 3 and shape[0] not in _FIRST:
            raise UserError(f"{label}: a tensor must be (3, H, W) or (1, H, W), not {shape}")
        array = _array(picture, label)
        return _bgr(np.moveaxis(array, 0, 2) if array.ndim == 3 else array, label)
    if isinstance(picture, np.ndarray):
        return _bgr(picture, label)
    raise UserError(f"{label}: {type(picture).__name__} is neither a path, a PIL image, an array nor a tensor")


def _decoded(picture: str | Path | bytes, label: str) -> Pixels:
    try:
        data = content(picture if isinstance(picture, bytes) else user_path(picture))
        _require_header(data, label)
        return decode(data)
    except UnusableError as error:
        raise UserError(f"{label}: {' '.join(error.detail.split())}") from error


def _require_header(data: bytes, label: str) -> None:
    """Refuse a file whose header states too many pixels: OpenCV only does where it was not imported before us."""
    try:
        with Image.open(BytesIO(data)) as image:
            size = image.size
    except Image.DecompressionBombError as error:
        raise UserError(f"{label}: {' '.join(str(error).split())}") from error
    except Exception:  # what PIL cannot open OpenCV may
        return
    _require_size(*size, label)


def _require_size(width: int, height: int, label: str) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{label}: {width} x {height} pixels are over {MAX_PIXELS:,}; make it smaller")
    if not width * height:
        raise UserError(f"{label}: it has no pixels")


def _of_pil(image: Image.Image, label: str) -> NDArray[Any]:
    """Return a PIL image, turned as it is shown, as an array of grey or RGB."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode == "CMYK":
            return _of_cmyk(np.asarray(image))
        if image.mode in _16_BIT or (image.mode == "I" and image.format == "PNG"):
            return np.asarray(image).astype(np.uint16)
        if image.mode == "I" or image.mode in _WITHOUT_A_RULE:
            raise UserError(f"{label}: there is no rule for PIL's mode {image.mode}; convert it to RGB or L first")
        if image.mode in ("La", "RGBa"):  # colours are multiplied by alpha, and must not be
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # a file that is read only now, and broken
        raise UserError(f"{label}: PIL cannot read it: {' '.join(str(error).split())[:200]}") from error


def _of_cmyk(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return CMYK (H, W, 4) as RGB, by the formula of OpenCV."""
    light = 255 - inks.astype(np.uint16)
    black = light[..., 3:]
    return (black - ((255 - light[..., :3]) * black >> 8)).astype(np.uint8)


def _bgr(array: NDArray[Any], label: str) -> Pixels:
    """Return grey, RGB or RGBA of 8 or 16 bits as (H, W, 3) BGR of 8 bits."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in _LAST:
        hint = "; it looks like channels first" if array.ndim == 3 and array.shape[0] in _FIRST else ""
        raise UserError(f"{label}: an array must be (H, W) or (H, W, 1 | 3 | 4), not {array.shape}{hint}")
    _require_size(array.shape[1], array.shape[0], label)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        hint = "; multiply by 255, round and convert, where it is 0..1" if array.dtype.kind == "f" else ""
        raise UserError(f"{label}: pixels must be uint8 (0..255) or uint16, not {array.dtype}{hint}")
    if array.dtype.itemsize == 2:
        array = array >> 8
    channels = np.repeat(array, 3, 2) if array.shape[2] == 1 else array[..., 2::-1]
    return np.ascontiguousarray(channels, np.uint8)


def boxes_of(crop: Any, number: int, *, many: bool) -> list[Box | None]:
    """Return a box for each picture.

    Args:
        crop: None: each picture is a face as a whole; for one picture a box; for many a list with a box or None
            for each of them.
        number: number of pictures.
        many: whether pictures were given as many.

    Raises:
        UserError: there are more or fewer boxes than pictures, or one is no box.
    """
    if crop is None:
        return [None] * number
    if not many:
        return [whole_pixels(crop, "crop")]
    boxes = [*crop] if isinstance(crop, Iterable) else [crop]
    if len(boxes) != number or any(np.ndim(box) == 0 and box is not None for box in boxes):
        raise UserError(f"crop: give a list with a box or None for each of the {number} pictures")
    return [whole_pixels(box, f"crop {n}") for n, box in enumerate(boxes, 1)]


def whole_pixels(box: Any, label: str) -> Box | None:
    """Return a box with its edges rounded, halves up, as the boxes of a data set are.

    Raises:
        UserError: it is not x, y, width, height, or has no area.
    """
    if box is None:
        return None
    try:
        x, y, width, height = (float(value) for value in box)
        left, top, right, bottom = (int(np.floor(edge + 0.5)) for edge in (x, y, x + width, y + height))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{label}: a box is x, y, width, height in pixels, not {box!r:.80}") from error
    if right <= left or bottom <= top or max(map(abs, (left, top, right, bottom))) > 10**6:
        raise UserError(
            f"{label}: a box is x, y, width, height in pixels, and {box!r:.80} has no area in a picture"
        )
    return left, top, right - left, bottom - top

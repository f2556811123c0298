"""Label the expression of a face: ``python use.py PICTURE [x y width height]``.

The box is that of the face, in pixels of the picture as it is shown; without it the whole picture is the face.
Needs numpy, pillow and onnxruntime, and model.onnx beside this file. Faces are cut out as for the training of the
model, with numpy and Pillow in place of OpenCV: pixels differ by rounding, JPEG files may be decoded to other last
bits.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODEL = Path(__file__).with_name("model.onnx")


def open_model(path: Path = MODEL) -> Any:
    """Return ONNX Runtime's session of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def open_picture(path: str) -> Image.Image:
    """Return the picture in a file as RGB, turned as it is shown; of 16 bits the upper 8 are kept."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    return picture.convert("RGB")


def grown(box: Sequence[float], size: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a box that is grown by a share of its sides, inside the picture.

    Raises:
        ValueError: the box has no pixel of the picture.
    """
    x, y, width, height = box
    left, top, right, bottom = (math.floor(edge + 0.5) for edge in (x, y, x + width, y + height))
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0 or left >= size[0] or top >= size[1] or right <= 0 or bottom <= 0:
        raise ValueError(f"the box {box} has no pixel of the picture, which is {size[0]} x {size[1]}")
    across, down = margin * width, margin * height
    return (
        max(round(left - across), 0),
        max(round(top - down), 0),
        min(round(right + across), size[0]),
        min(round(bottom + down), size[1]),
    )


def weights(side: int, size: int) -> Any:
    """Return the weights (size, side) of pixels in a row of another size: by area to shrink, cubic to enlarge."""
    scale = side / size
    if side > size:
        covered = np.clip(np.arange(size + 1)[:, None] * scale - np.arange(side), 0, 1)
        return np.diff(covered, axis=0) / scale
    table = np.zeros((size, side))
    middle = (np.arange(size) + 0.5) * scale - 0.5
    for neighbour in (-1, 0, 1, 2):
        column = np.floor(middle).astype(int) + neighbour
        taken = cubic(np.abs(middle - column))
        np.add.at(table, (np.arange(size), np.clip(column, 0, side - 1)), taken)
    return table


def cubic(distance: Any) -> Any:
    """Return the weight of pixels at a distance of at most 2, as OpenCV's cubic interpolation has it."""
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    return np.where(distance <= 1, near, a * (((distance - 5) * distance + 8) * distance - 4))


def resize(square: Image.Image, size: int) -> Image.Image:
    """Return a square picture with another side."""
    table = weights(square.width, size).astype(np.float32)
    rows = np.tensordot(table, np.asarray(square, np.float32), (1, 0))
    pixels = np.tensordot(rows, table, (1, 1)).transpose(0, 2, 1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def prepare(picture: Image.Image, box: Sequence[float] | None, framing: dict[str, Any]) -> Any:
    """Return the crop (3, S, S) of a face that the model is given, uint8 RGB."""
    face = picture if box is None else picture.crop(grown(box, picture.size, framing["margin"]))
    side, size = min(face.size), framing["size"]
    left, top = (face.width - side) // 2, (face.height - side) // 2
    square = face.crop((left, top, left + side, top + side))
    if side != size:
        square = resize(square, size)
    if framing["codec"] == "jpeg":  # the faces of the training were kept as JPEG, which leaves traces
        stream = io.BytesIO()
        square.save(stream, "JPEG", quality=95)
        square = Image.open(stream).convert("RGB")
    start, crop = (size - framing["crop"]) // 2, framing["crop"]
    pixels = np.asarray(square)[start : start + crop, start : start + crop]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def main(words: Sequence[str]) -> int:
    """Print the label of a face and the probabilities of all labels; return the exit code."""
    if len(words) not in (1, 5):
        print("usage: python use.py PICTURE [x y width height]", file=sys.stderr)
        return 2
    try:
        box = [float(word) for word in words[1:]] or None
        model = open_model()
        about = model.get_modelmeta().custom_metadata_map
        crop = prepare(open_picture(words[0]), box, json.loads(about["framing"]))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        print(f"use.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    (probabilities,) = model.run(["probabilities"], {"crops": crop[None]})[0]
    classes = json.loads(about["classes"])
    print(classes[int(probabilities.argmax())])
    for name, probability in zip(classes, probabilities.tolist(), strict=True):
        print(f"  {name} {probability:.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

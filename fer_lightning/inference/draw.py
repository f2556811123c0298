"""Pictures with the boxes and labels of their faces drawn into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from PIL import Image, ImageDraw, ImageFont

from fer_lightning.core.colours import BLUE, VERMILLION
from fer_lightning.data.store.crop import Pixels
from fer_lightning.inference.sources import Picture

SMALLEST = 480
"""Shorter side in pixels to which small pictures are enlarged, for their labels to be legible."""

_LETTERS = 32
"""Height of letters as a part of the shorter side."""


def draw(pixels: Pixels, rows: Sequence[dict[str, Any]]) -> Image.Image:
    """Return a picture (H, W, 3) of BGR with boxes and labels; small ones are enlarged."""
    scale = max(1, -(-SMALLEST // min(pixels.shape[:2])))
    if max(pixels.shape[:2]) * scale > 10 * SMALLEST:  # a strip
        scale = 1
    image = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(image)
    height = max(12, min(image.size) // _LETTERS)
    for row in rows:
        _draw_face(canvas, image.size, row, scale, height)
    return image


def _draw_face(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], row: dict[str, Any], scale: int, height: int
) -> None:
    """Draw the box of a face, and its label on a ground of its own: above it, or inside where there is no room."""
    box = [0.0, 0.0, float(size[0]), float(size[1])]
    if row["x"] is not None:
        left, top, wide, tall = (row[key] * scale for key in "xywh")
        box = [left, top, left + wide, top + tall]
    colour = BLUE if row["p"] is not None else VERMILLION
    if row["face"] is not None:
        canvas.rectangle(box, outline=colour, width=max(2, height // 8))
    text = row["note"] if row["p"] is None else f"{row['label']} {row['p']:.2f}"
    font = ImageFont.load_default(height)
    while (wide := canvas.textlength(text, font)) > size[0] - 4 and height > 6:
        height -= 1
        font = ImageFont.load_default(height)
    pad = height // 4
    deep = height + 2 * pad
    x = min(max(0.0, box[0]), max(0.0, size[0] - wide - 2 * pad))
    y = box[1] - deep if box[1] >= deep else max(0.0, box[1])
    canvas.rectangle([x, y, x + wide + 2 * pad, y + deep], fill=colour)
    canvas.text((x + pad, y + pad), text, fill="white", font=font)


def drawing_of(picture: Picture, folder: Path) -> Path:
    """Return the file for the drawing of a picture; the number keeps those of the same name apart."""
    frame = "" if picture.frame is None else f"_{picture.frame:06}"
    return folder / f"{picture.number:06}_{Path(picture.source).stem[:100]}{frame}.jpg"

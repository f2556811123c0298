"""A picture to draw curves on, with OpenCV's subpixel coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.store.crop import Pixels
from fer_lightning.data.synthetic.face_geometry import Points
from fer_lightning.data.synthetic.identity import Colour

_SHIFT = 4  # fractional bits of the coordinates given to OpenCV


@lru_cache(maxsize=64)
def _spline(points: int, closed: bool, steps: int) -> Points:
    """Return the matrix (samples, points) that turns control points into a Catmull-Rom curve."""
    rows = []
    for segment in range(points if closed else points - 1):
        for t in np.arange(steps) / steps:
            weights = 0.5 * np.array(
                [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
            )
            row = np.zeros(points)
            for offset, weight in enumerate(weights):
                point = segment - 1 + offset
                row[point % points if closed else min(max(point, 0), points - 1)] += weight
            rows.append(row)
    if not closed:
        rows.append(np.eye(points)[-1])
    return np.array(rows)


def smooth(points: Points, closed: bool = False, steps: int = 5) -> Points:
    """Return the curve (samples, 2) through control points (n, 2)."""
    return _spline(len(points), closed, steps) @ points


def _fixed(points: Points) -> NDArray[np.int32]:
    """Return coordinates as OpenCV's fixed-point numbers."""
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


@dataclass(frozen=True)
class Canvas:
    """A picture to draw on.

    Attributes:
        pixels: (H, W, 3) RGB, changed in place.
        unit: pixels per face unit.
    """

    pixels: Pixels
    unit: float

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon (n, 2) given in pixels."""
        cv2.fillPoly(self.pixels, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a line (n, 2) in pixels, of a width in face units."""
        thickness = max(round(width * self.unit), 1)
        cv2.polylines(self.pixels, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, _SHIFT)

    def stamp(self, shape: Points, content: Pixels, corner: NDArray[np.int_]) -> None:
        """Copy ``content`` (h, w, 3), whose upper left pixel lies at ``corner``, inside a polygon only."""
        height, width = content.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [_fixed(shape - corner)], 255, cv2.LINE_8, _SHIFT)
        window = self.pixels[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
        cv2.copyTo(content, mask, window)

    def disc(self, centre: Points, radius: float, colour: Colour) -> None:
        """Fill a circle around a point in pixels; the radius is in face units."""
        x, y = _fixed(centre)
        size = max(round(radius * self.unit * (1 << _SHIFT)), 1)
        cv2.circle(self.pixels, (int(x), int(y)), size, colour, -1, cv2.LINE_AA, _SHIFT)

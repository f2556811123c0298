"""A drawn face in a larger picture: pose, position, background, occlusion, light, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fer_lightning.data.store.crop import Box, Pixels, cut_out, resize
from fer_lightning.data.synthetic.action_units import Expression
from fer_lightning.data.synthetic.canvas import Canvas, smooth
from fer_lightning.data.synthetic.face_geometry import Points, Pose
from fer_lightning.data.synthetic.faces import draw_face, face_curves, landmarks
from fer_lightning.data.synthetic.identity import Colour, Identity, mix

_SCALE = 2  # faces are drawn this much larger and then shrunk: smooth edges
_UNIT = (30.0, 42.0)  # half a face's width in pixels
_AROUND = (1.4, 2.0)  # picture's side over the box's side
_YAW, _PITCH, _ROLL = 0.2, 0.12, 0.15  # standard deviations in radians
_BOX_GROWTH, _BOX_SHIFT = 0.06, 0.053  # standard deviations over the box's side
_OCCLUDED = 0.06
_NOISE_SIDE = 512


@dataclass(frozen=True)
class Photograph:
    """A picture with one face.

    Attributes:
        pixels: (H, W, 3) RGB.
        box: x, y, width, height of the face in pixels, inside the picture.
        landmarks: (68, 2) in pixels, inside the picture.
    """

    pixels: Pixels
    box: Box
    landmarks: Points

    def crop(self, size: int, margin: float = 0.0) -> Pixels:
        """Return the box grown by ``margin`` of its size on every side, resized to (size, size, 3)."""
        return resize(cut_out(self.pixels, self.box, margin), size)


def photograph(identity: Identity, expression: Expression, rng: Generator, plain: bool = False) -> Photograph:
    """Draw a face as a camera might meet it.

    Args:
        identity: the pictured person.
        expression: contraction of the action units.
        rng: source of everything else.
        plain: whether the head is not turned, nothing covers it, and the picture is sharp and evenly lit.
    """
    pose = Pose() if plain else _pose(rng)
    unit = _SCALE * (_UNIT[1] if plain else rng.uniform(*_UNIT))
    curves = face_curves(identity, expression, pose, unit)
    points = landmarks(curves)
    corner, side = _box(points, rng, 0.0 if plain else 1.0)
    width, height = (_SCALE * round(side * rng.uniform(*_AROUND) / _SCALE) for _ in range(2))
    margins = np.array([width, height]) - side
    shift = np.floor(margins * rng.uniform(0.2, 0.8, 2)) - corner
    curves = {name: curve + shift for name, curve in curves.items()}
    pixels = _background(width, height, rng)
    draw_face(pixels, curves, identity, expression, unit)
    if not plain and rng.random() < _OCCLUDED:
        _occlude(Canvas(pixels, unit), curves, identity, rng)
    size = width // _SCALE, height // _SCALE
    photo = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if not plain:
        photo = _camera(photo, rng)
    x, y = np.floor((corner + shift) / _SCALE).astype(int)
    limit = np.array(size) - 1
    edge = min(int(side / _SCALE), *(limit - (x, y)))
    return Photograph(photo, (int(x), int(y), edge, edge), np.clip((points + shift) / _SCALE, 0, limit))


def _pose(rng: Generator) -> Pose:
    yaw, pitch, roll = np.clip(rng.standard_normal(3), -2, 2) * (_YAW, _PITCH, _ROLL)
    return Pose(float(yaw), float(pitch), float(roll))


def _box(points: Points, rng: Generator, error: float) -> tuple[Points, float]:
    """Return upper left corner (2,) and side of a detector's square around the landmarks, with its error."""
    low, high = points.min(axis=0), points.max(axis=0)
    growth, *shift = error * np.clip(rng.standard_normal(3), -2, 2)
    side = float((high - low).max()) * (1.14 + _BOX_GROWTH * float(growth))
    middle = 0.5 * (low + high) + side * (_BOX_SHIFT * np.array(shift) - (0, 0.04))
    return middle - 0.5 * side, side


def _background(width: int, height: int, rng: Generator) -> Pixels:
    """Draw soft patches of colour with a few hard-edged shapes: (height, width, 3)."""
    base = rng.uniform(40, 215) + 18 * rng.standard_normal(3)
    patches = np.clip(base + 16 * rng.standard_normal((5, 5, 3)), 0, 255).astype(np.uint8)
    pixels = np.asarray(cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    for _ in range(int(rng.integers(4))):
        corners = rng.uniform(0, 1, (4, 2)) * (width, height)
        Canvas(pixels, 1).fill(corners, _any_colour(rng))
    return pixels


def _any_colour(rng: Generator) -> Colour:
    red, green, blue = rng.integers(20, 236, 3)
    return int(red), int(green), int(blue)


def _occlude(canvas: Canvas, curves: dict[str, Points], identity: Identity, rng: Generator) -> None:
    """Cover a part of the face with a hand, a bar or a scarf."""
    face, unit = curves["face"], canvas.unit
    kind = rng.choice(("hand", "bar", "scarf"))
    if kind == "hand":
        skin = mix(identity.skin, (70, 30, 30), 0.12)
        start = face[rng.integers(4, 11)] + unit * rng.uniform(-0.2, 0.2, 2)
        reach = (curves["bridge"][2] - start) * rng.uniform(0.25, 0.6)
        across = np.array([-reach[1], reach[0]]) / max(float(np.hypot(*reach)), 1.0)
        for finger in range(4):
            root = start + across * unit * 0.2 * (finger - 1.5)
            canvas.line(np.array([root - reach, root + reach * (0.85, 1, 0.95, 0.7)[finger]]), skin, 0.19)
            canvas.line(np.array([root - reach] * 2), skin, 0.3)
    elif kind == "bar":
        centre = curves["bridge"][1] + unit * rng.uniform(-0.9, 0.9, 2)
        turn = rng.uniform(0, np.pi)
        along = unit * 3 * np.array([np.cos(turn), np.sin(turn)])
        canvas.line(np.array([centre - along, centre + along]), _any_colour(rng), rng.uniform(0.12, 0.3))
    else:
        top = curves["mouth_bottom"][[0, 3, 6]] + (0, unit * rng.uniform(-0.1, 0.3))
        top[[0, 2]] += ((-0.9 * unit, 0), (0.9 * unit, 0))
        bottom = top + np.array([0, 1.2 * unit])
        canvas.fill(smooth(np.concatenate([top, bottom[::-1]]), closed=True), _any_colour(rng))


@lru_cache(maxsize=1)
def _noise() -> NDArray[np.float32]:
    """Return normal noise to cut pieces from; drawing it for every picture would cost more than the face."""
    return np.random.default_rng(0).standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3), np.float32)


def _camera(pixels: Pixels, rng: Generator) -> Pixels:
    """Apply light from one side, exposure, colour cast, blur and sensor noise."""
    height, width = pixels.shape[:2]
    turn, slope = rng.uniform(0, 2 * np.pi), 0.35 * rng.random()
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(slope * np.cos(turn))
    down = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(slope * np.sin(turn))
    cast = np.exp(0.18 * rng.standard_normal() + 0.06 * rng.standard_normal(3)).astype(np.float32)
    gain = (1 + across[None, :, None] + down[:, None, None]) * cast
    if rng.random() < 0.5:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 0.9)), np.uint8)
    x, y = rng.integers(_NOISE_SIDE - width), rng.integers(_NOISE_SIDE - height)
    noise = _noise()[y : y + height, x : x + width]
    lit = pixels * gain + np.float32(rng.uniform(1, 6)) * noise
    return np.clip(lit, 0, 255).astype(np.uint8)

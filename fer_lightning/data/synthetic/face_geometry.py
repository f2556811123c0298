"""The geometry of a drawn face: its control points under an expression, and their projection.

Face units: the origin lies between the eyes and the mouth, x to the picture's right, y down, z to the
viewer; half the width of the cheekbones is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.synthetic.action_units import Expression
from fer_lightning.data.synthetic.identity import Identity

Points: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """Rotation of the head in radians: yaw to the picture's right, pitch downwards, roll clockwise."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def matrix(self) -> Points:
        """Return the rotation (3, 3) that is applied to column vectors."""
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return np.asarray(tilt @ nod @ turn)


def project(curves: dict[str, Points], identity: Identity, pose: Pose, unit: float) -> dict[str, Points]:
    """Project control points on the head's surface.

    Args:
        curves: control points (n, 2) in face units, by name.
        identity: the pictured person; the height stretches y.
        pose: rotation of the head.
        unit: pixels per face unit.

    Returns:
        Points (n, 2) in pixels from the head's middle, by name.
    """
    flat = np.concatenate(list(curves.values()))
    x, y = flat[:, 0], flat[:, 1]
    depth = 0.75 * np.sqrt(np.maximum(1 - (x / 1.1) ** 2 - (y / 1.6) ** 2, 0))
    nose = 0.3 * np.exp(-((x / 0.2) ** 2) - ((y - identity.nose_y) / 0.25) ** 2)
    solid = np.stack([x, y * identity.height, depth + nose])
    turned = pose.matrix() @ solid
    plane = unit * (turned[:2] * (1 + 0.08 * turned[2])).T
    ends = np.cumsum([len(points) for points in curves.values()])[:-1]
    return dict(zip(curves, np.split(plane, ends), strict=True))


def control_points(identity: Identity, expression: Expression) -> dict[str, Points]:
    """Return the control points (n, 2) of all curves of a face in face units, by name.

    Names of curves that exist on both sides end in 0 (the picture's left) or 1; these curves run from the outer
    to the inner end.
    """
    curves = {"face": _outline(identity, expression), **_mouth(identity, expression)}
    for side in (0, 1):
        for part in (_eye, _brow, _folds):
            for name, points in part(identity, expression, side).items():
                curves[f"{name}{side}"] = np.array(points) * (2 * side - 1, 1)
    curves |= _nose(identity, expression)
    return curves


def jaw_drop(expression: Expression) -> float:
    """Return how far the jaw is lowered, in face units."""
    return 0.32 * expression.mean(26) + 0.02 * expression.mean(16)


def _outline(identity: Identity, expression: Expression) -> Points:
    """Return the closed outline (14, 2), clockwise from the top."""
    drop = jaw_drop(expression)
    cheek = 0.03 * expression.mean(12)
    half = [
        (0.6, -0.95),
        (0.92, -0.55),
        (0.99, -0.02),
        (0.93 + cheek, 0.42),
        (identity.jaw, 0.85 + 0.35 * drop),
        (0.36, identity.chin - 0.06 + 0.9 * drop),
    ]
    mirrored = [(-x, y) for x, y in reversed(half)]
    return np.array([(0.0, -1.08), *half, (0.0, identity.chin + drop), *mirrored])


def _eye(identity: Identity, expression: Expression, side: int) -> dict[str, list[tuple[float, float]]]:
    """Return the lids and the curves around an eye; the outer corner comes first."""
    au = partial(expression.side, side=side)
    x, y, half = identity.eye_x, identity.eye_y, identity.eye_width
    upper = identity.eye_open * max(
        1 + 0.75 * au(5) - 0.3 * au(7) - 0.22 * au(6) - 0.3 * au(9) - 0.12 * au(4), 0.1
    )
    lower = 0.8 * identity.eye_open * max(1 + 0.1 * au(5) - 0.65 * au(7) - 0.8 * au(6) - 0.45 * au(9), 0.0)
    outer, inner = (x + half, y - identity.eye_tilt), (x - half, y + identity.eye_tilt)
    crease = upper + 0.05 + 0.03 * au(5)
    cheek = 0.17 - 0.045 * au(6)
    return {
        "lid_upper": [
            outer,
            (x + 0.55 * half, y - 0.8 * upper),
            (x, y - 1.05 * upper),
            (x - 0.55 * half, y - 0.85 * upper),
            inner,
        ],
        "lid_lower": [outer, (x + 0.5 * half, y + 0.9 * lower), (x - 0.5 * half, y + 0.85 * lower), inner],
        "iris": [(x, y - 0.012)],
        "crease": [
            (x + 1.12 * half, y - 0.35 * crease),
            (x + 0.3 * half, y - crease),
            (x - 0.45 * half, y - 0.95 * crease),
            (x - half, y - 0.3 * crease),
        ],
        "bag": [(x + 0.95 * half, y + 0.6 * cheek), (x, y + cheek), (x - 0.9 * half, y + 0.75 * cheek)],
    }


def _brow(identity: Identity, expression: Expression, side: int) -> dict[str, list[tuple[float, float]]]:
    """Return the middle line of a brow (5 points); the outer end comes first."""
    inner = expression.side(1, side)
    outer = expression.side(2, side)
    lower = expression.side(4, side) + 0.45 * expression.side(9, side)
    rise, squeeze = 0.15 * inner, 0.075 * lower
    x, y, arch, slant = identity.eye_x, identity.brow_y, identity.brow_arch, identity.brow_slant
    drop = 0.15 * lower * (1 - 0.85 * min(inner, 1.0))  # AU1 holds the inner end up against AU4
    return {
        "brow": [
            (x + 0.29, y + 0.03 + slant - 0.1 * outer + 0.2 * drop),
            (x + 0.15, y - 0.7 * arch + 0.5 * slant - 0.16 * outer + 0.35 * drop),
            (x - 0.01, y - arch - 0.1 * outer - 0.25 * rise + 0.6 * drop),
            (x - 0.14 - 0.7 * squeeze, y - 0.45 * arch - 0.75 * rise - 0.03 * outer + 0.9 * drop - 0.5 * slant),
            (x - 0.25 - squeeze, y + 0.02 - 1.25 * rise - 0.02 * outer + drop - slant),
        ]
    }


def _folds(identity: Identity, expression: Expression, side: int) -> dict[str, list[tuple[float, float]]]:
    """Return where skin folds: from nose to mouth, beside the eyes, between and over the brows, at the mouth."""
    width, corner_y = _corner(identity, expression, side)
    wing_x, wing_y = identity.nose_width, identity.nose_y - 0.07 * expression.side(9, side)
    eye, eye_y = identity.eye_x + identity.eye_width, identity.eye_y
    brow = identity.brow_y - 0.1 * expression.side(1, side)
    swell = 0.07 * expression.side(12, side) + 0.03 * expression.side(9, side)
    return {
        "smile_fold": [
            (wing_x + 0.04, wing_y - 0.06),
            (wing_x + 0.17 + swell, wing_y + 0.1),
            (width + 0.11 + 0.4 * swell, corner_y - 0.04),
            (width + 0.1, corner_y + 0.1),
        ],
        "crow_top": [(eye + 0.04, eye_y - 0.02), (eye + 0.1, eye_y - 0.05), (eye + 0.16, eye_y - 0.1)],
        "crow_low": [(eye + 0.04, eye_y + 0.03), (eye + 0.1, eye_y + 0.05), (eye + 0.16, eye_y + 0.09)],
        "frown": [(0.065, eye_y - 0.22), (0.055, eye_y - 0.12), (0.075, eye_y - 0.04)],
        "forehead": [(0.0, brow - 0.17), (0.3, brow - 0.2), (0.56, brow - 0.15)],
        "forehead_top": [(0.0, brow - 0.29), (0.28, brow - 0.31), (0.48, brow - 0.27)],
        "nose_wrinkle": [(0.02, 0.03 + eye_y), (0.09, 0.0 + eye_y), (0.15, 0.07 + eye_y)],
        "nose_wrinkle_low": [(0.02, 0.13 + eye_y), (0.1, 0.1 + eye_y), (0.17, 0.18 + eye_y)],
        "dimple": [(width + 0.06, corner_y - 0.08), (width + 0.105, corner_y), (width + 0.06, corner_y + 0.08)],
        "droop": [
            (width + 0.02, corner_y + 0.02),
            (width + 0.05, corner_y + 0.09),
            (width + 0.03, corner_y + 0.18),
        ],
    }


def _corner(identity: Identity, expression: Expression, side: int) -> tuple[float, float]:
    """Return a mouth corner: its distance from the middle line, and y."""
    au = partial(expression.side, side=side)
    width = 1 + 0.26 * au(12) + 0.3 * au(20) - 0.16 * au(23) + 0.06 * au(14) + 0.03 * au(15)
    x = identity.mouth_width * (width - 0.16 * expression.mean(26))
    y = identity.mouth_y + identity.mouth_rest - 0.17 * au(12) + 0.14 * au(15) + 0.05 * au(20) - 0.08 * au(14)
    return x, y + 0.3 * jaw_drop(expression)


def _mouth(identity: Identity, expression: Expression) -> dict[str, Points]:
    """Return the outer and inner curves of the lips, each from the picture's left to its right."""
    au = expression.mean
    (wl, yl), (wr, yr) = (_corner(identity, expression, side) for side in (0, 1))
    middle = identity.mouth_y + 0.025 * au(12) - 0.035 * au(15)
    parted_smile = max(au(12) - 0.5, 0.0)
    top = middle - 0.06 * au(9) - 0.01 * au(26) - 0.02 * au(20) - 0.03 * parted_smile
    bottom = middle + jaw_drop(expression) * 1.05 + 0.12 * au(16) + 0.06 * au(20) + 0.2 * parted_smile
    round_share = 0.4 - 0.15 * min(au(26), 1.0)
    thin = max(1 - 0.55 * au(23) - 0.3 * au(20) - 0.3 * au(12), 0.2)
    upper, lower = identity.lip_upper * thin, identity.lip_lower * thin * (1 + 0.1 * au(16))

    def curve(mid: float, lift: float, share: float = 0.4) -> Points:
        left, right = (mid + (corner - mid) * share - 0.75 * lift for corner in (yl, yr))
        cleft, crests = (0, mid - 0.9 * lift), [(x, mid - 1.05 * lift) for x in (-0.18 * wl, 0.18 * wr)]
        return np.array([(-wl, yl), (-0.55 * wl, left), crests[0], cleft, crests[1], (0.55 * wr, right), (wr, yr)])

    chin = [(x, bottom + lower + 0.1 + y) for x, y in ((-0.16, 0.02), (0, -0.01), (0.16, 0.02))]
    return {
        "lip_top": curve(top, upper, 0.45),
        "mouth_top": curve(top, 0.0),
        "mouth_bottom": curve(bottom, 0.0, round_share),
        "lip_bottom": curve(bottom, -lower, round_share),
        "chin_fold": np.array(chin),
    }


def _nose(identity: Identity, expression: Expression) -> dict[str, Points]:
    """Return the bridge from the top down (4 points), the base from left to right (5 points), and both sides."""
    wrinkle = expression.mean(9)
    width = identity.nose_width * (1 + 0.18 * wrinkle + 0.08 * expression.mean(12))
    y = identity.nose_y - 0.05 * wrinkle
    top = identity.eye_y - 0.03
    bridge = [(0, top + share * (y - 0.02 - top)) for share in (0, 0.36, 0.7, 1)]
    wing = y - 0.035 * wrinkle
    outer, inner = np.array((width, wing - 0.02)), np.array((0.55 * width, wing + 0.05))
    base = [outer * (-1, 1), inner * (-1, 1), (0, y + 0.08), inner, outer]
    curves = {"bridge": np.array(bridge), "nose_base": np.array(base)}
    wing_points = [(0.72 * width, wing - 0.09), (1.05 * width, wing - 0.04), (0.8 * width, wing + 0.045)]
    flank_points = [(0.07, top), (0.08, top + 0.2), (0.75 * width, wing - 0.08)]
    for side in (0, 1):
        curves[f"wing{side}"] = np.array(wing_points) * (2 * side - 1, 1)
        curves[f"flank{side}"] = np.array(flank_points) * (2 * side - 1, 1)
    return curves

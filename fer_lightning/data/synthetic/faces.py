"""Draw faces from action units, given an identity, an expression and a pose.

Action units as defined by the Facial Action Coding System (Ekman & Friesen 1978).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fer_lightning.data.store.crop import Pixels
from fer_lightning.data.synthetic.action_units import Expression
from fer_lightning.data.synthetic.canvas import Canvas, smooth
from fer_lightning.data.synthetic.face_geometry import Points, Pose, control_points, project
from fer_lightning.data.synthetic.hair import hair_behind, hair_curves, hair_front
from fer_lightning.data.synthetic.identity import Colour, Identity, mix

_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)
_FOLD_SHARE = 0.42  # darkening of a skin fold at full contraction


def face_curves(identity: Identity, expression: Expression, pose: Pose, unit: float) -> dict[str, Points]:
    """Return the control points (n, 2) of a head in pixels from the head's middle, by name.

    ``unit`` is the length of a face unit (half the face's width) in pixels.
    """
    curves = control_points(identity, expression) | hair_curves(identity)
    return project(curves, identity, pose, unit)


def draw_face(
    pixels: Pixels, curves: dict[str, Points], identity: Identity, expression: Expression, unit: float
) -> None:
    """Draw a head with neck and shoulders into a picture.

    Args:
        pixels: (H, W, 3) RGB, changed in place.
        curves: result of ``face_curves``, moved to the head's position in the picture.
        identity: the pictured person.
        expression: contraction of the action units.
        unit: pixels per face unit.
    """
    canvas = Canvas(pixels, unit)
    hair_behind(canvas, curves, identity)
    _body(canvas, curves, identity)
    _skin(canvas, curves, identity, expression)
    for side in (0, 1):
        _eye(canvas, curves, identity, expression, side)
    _nose(canvas, curves, identity, expression)
    _mouth(canvas, curves, identity, expression)
    _folds(canvas, curves, identity, expression)
    for side in (0, 1):
        _brow(canvas, curves, identity, side)
    hair_front(canvas, curves, identity)
    if identity.glasses:
        _glasses(canvas, curves)


def landmarks(curves: dict[str, Points]) -> Points:
    """Return the 68 landmarks (68, 2) of the 300-W scheme from a face's control points."""
    outline = smooth(curves["face"], closed=True, steps=4)
    jaw = outline[np.linspace(12, 44, 17).round().astype(int)][::-1]
    eyes = []
    for side, order in ((0, (0, 1, 3, 4)), (1, (4, 3, 1, 0))):
        lower = curves[f"lid_lower{side}"][1:3]
        eyes += [curves[f"lid_upper{side}"][list(order)], lower[::-1] if side == 0 else lower]
    upper = [jaw, curves["brow0"], curves["brow1"][::-1], curves["bridge"], curves["nose_base"]]
    lips = [curves["lip_top"], curves["lip_bottom"][1:-1][::-1]]
    mouth_top = curves["mouth_top"]
    left, right = 0.9 * mouth_top[[0, 6]] + 0.1 * mouth_top[[6, 0]]
    mouth = [[left], mouth_top[2:5], [right], curves["mouth_bottom"][[4, 3, 2]]]
    return np.concatenate([*upper, *eyes, *lips, *mouth])


def _body(canvas: Canvas, curves: dict[str, Points], identity: Identity) -> None:
    """Draw neck and shoulders, below the head."""
    face, unit = curves["face"], canvas.unit
    chin, left, right = face[7], face[9], face[5]
    middle = 0.5 * (left + right)
    down = np.array([0.0, unit])
    across = np.array([0.55 * unit, 0.0])
    top = [corner * 0.7 + middle * 0.3 for corner in (left, right)]
    neck = np.array([*top, chin + across + down, chin - across + down])
    canvas.fill(neck, mix(identity.skin, (40, 20, 20), 0.25))
    half = np.array([(0.5, 0.38), (1.5, 0.62), (1.9, 1.2), (1.9, 3)])
    shoulders = np.array([half[0] * (-1, 1), (0, 0.55), *half, *(half * (-1, 1))[:0:-1]])
    canvas.fill(smooth(chin + unit * shoulders, closed=True, steps=4), identity.shirt)


def _skin(canvas: Canvas, curves: dict[str, Points], identity: Identity, expression: Expression) -> None:
    """Draw ears, the face, soft shading and beard."""
    face = smooth(curves["face"], closed=True)
    shade = mix(identity.skin, (60, 20, 20), 0.15)
    for ear in (3, 11):
        canvas.disc(curves["face"][ear] + (0, 0.16 * canvas.unit), 0.17, shade)
    canvas.fill(face, mix(identity.skin, (60, 20, 20), 0.1))
    middle = face.mean(axis=0)
    canvas.fill(middle + 0.93 * (face - middle), identity.skin)
    for side in (0, 1):
        bag = curves[f"bag{side}"]
        raised = expression.side(6, side)
        cheek = bag[1] + (0, (0.2 - 0.05 * raised) * canvas.unit)
        blush = mix(identity.skin, (214, 90, 84), 0.1 + 0.08 * raised)
        canvas.disc(cheek, 0.2 + 0.03 * raised, mix(identity.skin, blush, 0.5))
        canvas.disc(cheek, 0.14 + 0.03 * raised, blush)
        socket = np.concatenate([smooth(curves[f"crease{side}"]), smooth(bag)[::-1]])
        canvas.fill(socket, mix(identity.skin, (70, 30, 40), 0.12))
    if identity.beard:
        _beard(canvas, curves, identity)


def _beard(canvas: Canvas, curves: dict[str, Points], identity: Identity) -> None:
    face, lip = curves["face"], curves["lip_top"]
    lower = face[3:12]
    top = [0.5 * (lip[0] + face[11]), lip[1] - (0, 0.1 * canvas.unit), lip[3] - (0, 0.08 * canvas.unit)]
    top += [lip[5] - (0, 0.1 * canvas.unit), 0.5 * (lip[6] + face[3])]
    canvas.fill(smooth(np.array([*lower, *top]), closed=True), mix(identity.skin, identity.hair, identity.beard))


def _eye(canvas: Canvas, curves: dict[str, Points], identity: Identity, expression: Expression, side: int) -> None:
    """Draw the eyeball clipped by the lids, lash line, crease and lower lid."""
    upper, lower = smooth(curves[f"lid_upper{side}"]), smooth(curves[f"lid_lower{side}"])
    shape = np.concatenate([upper, lower[::-1]])
    limit = np.array(canvas.pixels.shape[1::-1])
    corner = np.clip(np.floor(shape.min(axis=0)).astype(int) - 1, 0, limit)
    width, height = np.clip(np.ceil(shape.max(axis=0)).astype(int) + 2, corner, limit) - corner
    if width and height:
        ball = Canvas(np.full((height, width, 3), (242, 240, 238), np.uint8), canvas.unit)
        iris = curves[f"iris{side}"][0] - corner
        ball.disc(iris, 0.1, mix(identity.iris, _BLACK, 0.45))
        ball.disc(iris, 0.082, identity.iris)
        ball.disc(iris, 0.045, (12, 10, 10))
        ball.disc(iris - canvas.unit * np.array([0.03, 0.035]), 0.022, _WHITE)
        canvas.stamp(shape, ball.pixels, corner)
    tight, raised = expression.side(7, side), expression.side(6, side)
    canvas.line(upper, mix(identity.skin, (24, 14, 14), 0.9), 0.034)
    canvas.line(lower, mix(identity.skin, (70, 30, 30), 0.4 + 0.3 * tight), 0.018 + 0.012 * tight)
    canvas.line(smooth(curves[f"crease{side}"]), mix(identity.skin, (60, 24, 24), 0.4), 0.018)
    _fold(canvas, curves[f"bag{side}"], identity, 0.3 * identity.wrinkles + 0.7 * raised + 0.4 * tight)


def _brow(canvas: Canvas, curves: dict[str, Points], identity: Identity, side: int) -> None:
    """Draw a brow: thin at the outer end, thick at the inner one."""
    middle = smooth(curves[f"brow{side}"])
    profile = np.interp(np.linspace(0, 1, len(middle)), (0, 0.3, 0.85, 1), (0.15, 0.7, 1, 0.75))
    half = identity.brow_thick * canvas.unit * profile
    direction = np.gradient(middle, axis=0)
    normal = direction[:, ::-1] * (1, -1) / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
    offset = normal * half[:, None]
    canvas.fill(np.concatenate([middle + offset, (middle - offset)[::-1]]), identity.brow)


def _nose(canvas: Canvas, curves: dict[str, Points], identity: Identity, expression: Expression) -> None:
    """Draw shaded flanks, a light ridge, wings, base and nostrils."""
    shade = mix(identity.skin, (70, 24, 24), 0.16)
    base, tip = curves["nose_base"], curves["bridge"][3]
    for side in (0, 1):
        flank = smooth(curves[f"flank{side}"])
        canvas.fill(np.concatenate([flank, [base[4 * side], base[2], tip]]), shade)
    canvas.line(smooth(curves["bridge"]), mix(identity.skin, _WHITE, 0.25), 0.07)
    canvas.disc(tip, 0.085, mix(identity.skin, _WHITE, 0.15))
    dark = mix(identity.skin, (50, 14, 14), 0.55)
    canvas.line(smooth(base[1:4]), dark, 0.025)
    for side in (0, 1):
        canvas.disc(base[1 + 2 * side], 0.038, mix(identity.skin, (36, 10, 10), 0.75))
        colour = mix(identity.skin, dark, 0.6 + 0.4 * expression.side(9, side))
        canvas.line(smooth(curves[f"wing{side}"]), colour, 0.024)


def _mouth(canvas: Canvas, curves: dict[str, Points], identity: Identity, expression: Expression) -> None:
    """Draw the lips, and between them darkness, the tongue and the teeth."""
    top, bottom = smooth(curves["mouth_top"]), smooth(curves["mouth_bottom"])
    lip_top, lip_bottom = smooth(curves["lip_top"]), smooth(curves["lip_bottom"])
    canvas.fill(np.concatenate([lip_top, lip_bottom[::-1]]), identity.lip)
    canvas.fill(np.concatenate([lip_top, top[::-1]]), mix(identity.lip, (60, 16, 24), 0.22))
    gap = float((curves["mouth_bottom"] - curves["mouth_top"])[3, 1]) / canvas.unit
    if gap > 0.02:
        canvas.fill(np.concatenate([top, bottom[::-1]]), (58, 16, 20))
        inner = slice(4, -4)
        if gap > 0.2:
            tongue = bottom[8:-8]
            canvas.fill(np.concatenate([tongue - (0, 0.3 * gap * canvas.unit), tongue[::-1]]), (178, 82, 84))
        teeth = min(0.5 * gap, 0.085) * canvas.unit
        bulge = np.sin(np.linspace(0, np.pi, len(top[inner])))[:, None] * (0, teeth)
        enamel = (244, 240, 230)
        if expression.mean(12) + expression.mean(20) + 0.5 * expression.mean(26) > 0.2:
            canvas.fill(np.concatenate([top[inner], (top[inner] + bulge)[::-1]]), enamel)
        if expression.mean(16) + expression.mean(20) > 0.2:
            canvas.fill(np.concatenate([bottom[inner], (bottom[inner] - bulge)[::-1]]), enamel)
    else:
        canvas.line(top, mix(identity.lip, (40, 8, 12), 0.7), 0.026)
    shine = lip_bottom[10:-10] * 0.55 + bottom[10:-10] * 0.45
    canvas.line(shine, mix(identity.lip, _WHITE, 0.2), 0.025)


def _fold(canvas: Canvas, points: Points, identity: Identity, depth: float, width: float = 0.026) -> None:
    """Draw a line of darker skin; nothing where the skin is smooth."""
    if depth > 0.06:
        colour = mix(identity.skin, (60, 16, 16), _FOLD_SHARE * min(depth, 1.1))
        canvas.line(smooth(points), colour, width * (0.6 + 0.5 * depth))


def _folds(canvas: Canvas, curves: dict[str, Points], identity: Identity, expression: Expression) -> None:
    """Draw the folds and wrinkles that the action units make, on top of the identity's own."""
    wrinkles = identity.wrinkles
    for side in (0, 1):
        au = partial(expression.side, side=side)
        crow = 0.25 * wrinkles + 0.8 * au(6)
        forehead = 0.3 * wrinkles + 0.45 * au(1) + 0.55 * au(2)
        depths = {
            "smile_fold": 0.2 + 0.3 * wrinkles + 0.55 * au(12) + 0.65 * au(9) + 0.2 * au(20),
            "crow_top": crow,
            "crow_low": crow,
            "frown": 0.15 * wrinkles + 0.95 * au(4),
            "forehead": forehead,
            "forehead_top": forehead - 0.15,
            "nose_wrinkle": 1.1 * au(9),
            "nose_wrinkle_low": 1.1 * au(9),
            "dimple": 1.3 * au(14) + 0.35 * au(20),
            "droop": 0.15 * wrinkles + 0.9 * au(15),
        }
        for name, depth in depths.items():
            _fold(canvas, curves[f"{name}{side}"], identity, depth)
    _fold(canvas, curves["chin_fold"], identity, 0.25 + 0.6 * expression.mean(15) + 0.4 * expression.mean(23))


def _glasses(canvas: Canvas, curves: dict[str, Points]) -> None:
    frame: Colour = (36, 34, 38)
    turn = np.linspace(0, 2 * np.pi, 17)
    centres = []
    for side in (0, 1):
        lid = curves[f"lid_upper{side}"]
        centre = 0.5 * (lid[0] + lid[4])
        rim = centre + canvas.unit * np.stack([0.29 * np.cos(turn), 0.05 + 0.22 * np.sin(turn)], axis=1)
        canvas.line(rim, frame, 0.032)
        temple = [lid[0] + (lid[0] - centre) * 0.4, curves["face"][11 if side == 0 else 3]]
        canvas.line(np.array(temple), frame, 0.03)
        centres.append(centre)
    bridge = centres[1] - centres[0]
    canvas.line(np.array([centres[0] + 0.34 * bridge, centres[1] - 0.34 * bridge]), frame, 0.032)

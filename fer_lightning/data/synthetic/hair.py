"""Hair of a drawn face, behind the head and in front of the forehead."""

from __future__ import annotations

import numpy as np

from fer_lightning.data.synthetic.canvas import Canvas, smooth
from fer_lightning.data.synthetic.face_geometry import Points
from fer_lightning.data.synthetic.identity import Identity, mix

_CROWN = ((-1.06, -0.1), (-1.1, -0.6), (-0.75, -1.12), (0, -1.32), (0.75, -1.12), (1.1, -0.6), (1.06, -0.1))
_HAIRLINES = {
    "shaved": ((0.94, -0.4), (0.62, -0.8), (0, -0.9), (-0.62, -0.8), (-0.94, -0.4)),
    "short": ((0.93, -0.38), (0.74, -0.72), (0.3, -0.86), (-0.3, -0.78), (-0.74, -0.74), (-0.93, -0.38)),
    "fringe": ((0.92, -0.3), (0.8, -0.62), (0.3, -0.66), (-0.2, -0.63), (-0.8, -0.62), (-0.92, -0.3)),
    "long": ((0.95, 0.1), (0.86, -0.5), (0.45, -0.86), (-0.2, -0.92), (-0.75, -0.7), (-0.93, 0.1)),
    "parted": ((0.95, 0.1), (0.84, -0.45), (0.3, -0.84), (0, -1.06), (-0.3, -0.84), (-0.84, -0.45), (-0.95, 0.1)),
    "curly": ((0.95, -0.25), (0.76, -0.68), (0.3, -0.76), (-0.3, -0.76), (-0.76, -0.68), (-0.95, -0.25)),
}
_MANE = ((-1.0, -0.9), (-1.2, -0.2), (-1.22, 0.7), (-1.1, 1.5), (1.1, 1.5), (1.22, 0.7), (1.2, -0.2), (1.0, -0.9))


def hair_curves(identity: Identity) -> dict[str, Points]:
    """Return the control points (n, 2) of the hair in face units, by name."""
    curves = {"crown": _CROWN, "hairline": _HAIRLINES[identity.hair_style], "mane": _MANE}
    return {name: np.array(points) for name, points in curves.items()}


def hair_behind(canvas: Canvas, curves: dict[str, Points], identity: Identity) -> None:
    """Draw long hair, before the head is drawn."""
    if identity.hair_style in ("long", "parted"):
        canvas.fill(smooth(curves["mane"], closed=True), mix(identity.hair, (0, 0, 0), 0.25))


def hair_front(canvas: Canvas, curves: dict[str, Points], identity: Identity) -> None:
    """Draw the cap of hair above the hairline, with a few strands of light."""
    crown, line = curves["crown"], curves["hairline"]
    colour = identity.hair
    if identity.hair_style == "shaved":
        colour = mix(identity.skin, identity.hair, 0.35)
        crown = line.mean(axis=0) + 0.93 * (crown - line.mean(axis=0))
    canvas.fill(np.concatenate([smooth(crown), smooth(line)]), colour)
    if identity.hair_style == "curly":
        for centre in smooth(crown, steps=2):
            canvas.disc(centre, 0.2, colour)
        for centre in line[1:-1]:
            canvas.disc(centre - (0, 0.1 * canvas.unit), 0.16, mix(colour, (255, 255, 255), 0.04))
    elif identity.hair_style != "shaved":
        light = mix(colour, (255, 255, 255), 0.14)
        for share in (0.3, 0.6):
            middle = 0.5 * (crown[2] + crown[4])
            strand = crown[1:4] * (1 - share * 0.5) + middle * share * 0.5
            canvas.line(smooth(strand), light, 0.03)

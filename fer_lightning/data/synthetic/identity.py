"""Whose face is drawn: everything about a face that does not move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

Colour: TypeAlias = tuple[int, int, int]

_SKINS = ((252, 224, 204), (240, 200, 172), (224, 172, 136), (190, 132, 96), (142, 94, 66), (98, 64, 48))
_HAIRS = (
    (28, 24, 24),
    (60, 40, 30),
    (104, 68, 42),
    (160, 112, 62),
    (214, 178, 116),
    (150, 70, 40),
    (168, 166, 164),
)
_IRISES = ((74, 48, 30), (96, 66, 38), (70, 110, 140), (92, 120, 80), (110, 120, 128))
HAIR_STYLES = ("shaved", "short", "fringe", "long", "parted", "curly")


@dataclass(frozen=True)
class Identity:
    """Whose face it is: everything that does not move. Lengths in face units, colours RGB 0..255."""

    height: float
    jaw: float
    chin: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    brow_y: float
    brow_arch: float
    brow_slant: float
    brow_thick: float
    nose_width: float
    nose_y: float
    mouth_y: float
    mouth_width: float
    mouth_rest: float
    lip_upper: float
    lip_lower: float
    wrinkles: float
    skin: Colour
    hair: Colour
    brow: Colour
    iris: Colour
    lip: Colour
    shirt: Colour
    hair_style: str
    glasses: bool
    beard: float


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour at ``share`` (0..1) of the way from the first to the second."""
    share = min(max(share, 0.0), 1.0)
    return tuple(round(a + share * (b - a)) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def _jittered(colour: Colour, spread: float, rng: Generator) -> Colour:
    offset = spread * rng.standard_normal(3)
    return tuple(int(min(max(a + b, 0), 255)) for a, b in zip(colour, offset, strict=True))  # type: ignore[return-value]


def draw_identity(rng: Generator) -> Identity:
    """An identity; the same generator state gives the same person."""

    def near(mean: float, spread: float) -> float:
        return mean + spread * float(np.clip(rng.standard_normal(), -2, 2))

    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = _jittered(mix(_SKINS[int(tone)], _SKINS[int(tone) + 1], tone % 1), 3, rng)
    dark_haired = rng.random() < 0.25 * tone
    hair = _jittered(_HAIRS[int(rng.integers(2 if dark_haired else len(_HAIRS)))], 4, rng)
    return Identity(
        height=near(1.0, 0.056),
        jaw=near(0.74, 0.07),
        chin=near(1.24, 0.042),
        eye_x=near(0.43, 0.028),
        eye_y=near(-0.15, 0.021),
        eye_width=near(0.205, 0.0168),
        eye_open=near(0.1, 0.016),
        eye_tilt=near(0.01, 0.02),
        brow_y=near(-0.43, 0.028),
        brow_arch=near(0.06, 0.022),
        brow_slant=near(0.0, 0.03),
        brow_thick=near(0.052, 0.016),
        nose_width=near(0.2, 0.038),
        nose_y=near(0.32, 0.035),
        mouth_y=near(0.69, 0.028),
        mouth_width=near(0.36, 0.04),
        mouth_rest=near(0.0, 0.022),
        lip_upper=near(0.07, 0.02),
        lip_lower=near(0.095, 0.024),
        wrinkles=float(rng.beta(1, 3)),
        skin=skin,
        hair=hair,
        brow=mix(hair, (30, 22, 20), 0.45),
        iris=_jittered(_IRISES[int(rng.integers(2 if dark_haired else len(_IRISES)))], 8, rng),
        lip=_jittered(mix(mix(skin, (120, 36, 40), 0.42), (196, 60, 80), 0.5 * float(rng.random())), 5, rng),
        shirt=_jittered((128, 128, 128), 60, rng),
        hair_style=HAIR_STYLES[int(rng.integers(len(HAIR_STYLES)))],
        glasses=bool(rng.random() < 0.12),
        beard=float(rng.random() < 0.15) * float(rng.uniform(0.3, 0.75)),
    )


def dressed_anew(person: Identity, rng: Generator) -> Identity:
    """The same face after a while: other hair, clothes, glasses and tan."""
    other = draw_identity(rng)
    return replace(
        person,
        skin=_jittered(mix(person.skin, other.skin, 0.3), 6, rng),
        hair=other.hair,
        hair_style=other.hair_style,
        shirt=other.shirt,
        glasses=other.glasses,
        beard=other.beard,
    )

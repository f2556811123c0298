"""The identity of a drawn face: everything about it that does not move."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

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


def _varying(mean: float, spread: float) -> Any:
    """Declare a length that varies over people: its mean and standard deviation."""
    return field(metadata={"normal": (mean, spread)})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything about a face that does not move. Lengths are in face units, colours RGB 0..255."""

    height: float = _varying(1.0, 0.056)
    jaw: float = _varying(0.74, 0.07)
    chin: float = _varying(1.24, 0.042)
    eye_x: float = _varying(0.43, 0.028)
    eye_y: float = _varying(-0.15, 0.021)
    eye_width: float = _varying(0.205, 0.0168)
    eye_open: float = _varying(0.1, 0.016)
    eye_tilt: float = _varying(0.01, 0.02)
    brow_y: float = _varying(-0.43, 0.028)
    brow_arch: float = _varying(0.06, 0.022)
    brow_slant: float = _varying(0.0, 0.03)
    brow_thick: float = _varying(0.052, 0.016)
    nose_width: float = _varying(0.2, 0.038)
    nose_y: float = _varying(0.32, 0.035)
    mouth_y: float = _varying(0.69, 0.028)
    mouth_width: float = _varying(0.36, 0.04)
    mouth_rest: float = _varying(0.0, 0.022)
    lip_upper: float = _varying(0.07, 0.02)
    lip_lower: float = _varying(0.095, 0.024)
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
    """Return the colour at ``share`` (0..1) of the way from the first to the second."""
    share = min(max(share, 0.0), 1.0)
    return tuple(round(a + share * (b - a)) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def _jittered(colour: Colour, spread: float, rng: Generator) -> Colour:
    offset = spread * rng.standard_normal(3)
    return tuple(int(min(max(a + b, 0), 255)) for a, b in zip(colour, offset, strict=True))  # type: ignore[return-value]


def draw_identity(rng: Generator) -> Identity:
    """Draw an identity; the same generator state gives the same person."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = _jittered(mix(_SKINS[int(tone)], _SKINS[int(tone) + 1], tone % 1), 3, rng)
    dark_haired = rng.random() < 0.25 * tone
    hair = _jittered(_HAIRS[int(rng.integers(2 if dark_haired else len(_HAIRS)))], 4, rng)
    lengths = {}
    for length in fields(Identity):  # in their order, since that of the draws decides the face
        if length.metadata:
            mean, spread = length.metadata["normal"]
            lengths[length.name] = mean + spread * float(np.clip(rng.standard_normal(), -2, 2))
    return Identity(
        **lengths,
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
    """Return the same face at another time: with other hair, clothes, glasses and tan."""
    other = draw_identity(rng)
    changes = {name: getattr(other, name) for name in ("hair", "hair_style", "shirt", "glasses", "beard")}
    return replace(person, skin=_jittered(mix(person.skin, other.skin, 0.3), 6, rng), **changes)

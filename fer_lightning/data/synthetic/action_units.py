"""Facial action units of the eight emotions, and how strongly a drawn face shows them.

Action units (AU) as defined by the Facial Action Coding System (Ekman & Friesen 1978).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from numpy.random import Generator

EMOTION_AUS: Mapping[str, tuple[int, ...]] = {
    "neutral": (),
    "happy": (6, 12),
    "sad": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "disgust": (9, 15, 16),
    "anger": (4, 5, 7, 23),
    "contempt": (12, 14),
}
"""Action units of each emotion's prototype (contempt's are on one side of the face only)."""

ACTION_UNITS = tuple(sorted({au for aus in EMOTION_AUS.values() for au in aus}))
"""All action units that a drawn face can show."""

CONFUSIONS: Mapping[str, tuple[str, ...]] = {
    "neutral": ("contempt", "sad"),
    "happy": ("contempt", "neutral"),
    "sad": ("neutral", "disgust", "fear"),
    "surprise": ("fear",),
    "fear": ("surprise",),
    "disgust": ("anger", "sad"),
    "anger": ("disgust",),
    "contempt": ("neutral", "happy"),
}
"""The emotions that an annotator plausibly takes each emotion for."""

_CIRCUMPLEX = {
    "neutral": (0.0, 0.0),
    "happy": (0.75, 0.2),
    "sad": (-0.65, -0.3),
    "surprise": (0.2, 0.7),
    "fear": (-0.6, 0.75),
    "disgust": (-0.65, 0.35),
    "anger": (-0.6, 0.65),
    "contempt": (-0.5, 0.3),
}
_ONE_SIDED = "contempt"
_STRENGTH_SPREAD = 0.25  # of the logarithm, over samples
_UNIT_SPREAD = 0.25  # of the logarithm, over the action units of a sample
_SIDE_SPREAD = 0.08
_MISS = 0.06  # chance that an action unit of the prototype does not appear
_LEAK = 0.06  # chance that a foreign action unit appears
_LEAK_MOST = 0.3  # strongest foreign action unit, as a share of the intensity
_HABIT = 0.35  # chance that an action unit is a habit of a person
_HABIT_MOST = 0.8
_STRONGEST = 1.3


@dataclass(frozen=True)
class Expression:
    """Contraction of each action unit.

    Attributes:
        sides: (picture's left, picture's right) by action unit; 0 is relaxed, 1 the clear prototype.
        strength: strength of the whole expression, 0 for a neutral face.
    """

    sides: Mapping[int, tuple[float, float]]
    strength: float = 1.0

    def side(self, unit: int, side: int) -> float:
        """Return the contraction on one side; ``side`` 0 is the picture's left."""
        return self.sides.get(unit, (0.0, 0.0))[side]

    def mean(self, unit: int) -> float:
        """Return the contraction averaged over both sides."""
        left, right = self.sides.get(unit, (0.0, 0.0))
        return 0.5 * (left + right)


def prototype(emotion: str, strength: float = 1.0, side: int = 1) -> Expression:
    """Return the textbook expression; a one-sided one shows on ``side`` (0: the picture's left)."""
    both = (strength, strength)
    if emotion == _ONE_SIDED:
        both = (0.0, strength) if side else (strength, 0.0)
    return Expression(dict.fromkeys(EMOTION_AUS[emotion], both), strength if EMOTION_AUS[emotion] else 0.0)


def sample(emotion: str, intensity: float, rng: Generator) -> Expression:
    """Draw an expression as people show it: units vary, some are missing, foreign ones appear, sides differ.

    Args:
        emotion: name of the emotion.
        intensity: typical strength of its action units (1 is the clear prototype); lower is more difficult.
        rng: source of the variation.
    """
    strength = min(intensity * math.exp(_STRENGTH_SPREAD * rng.standard_normal()), _STRONGEST)
    base = prototype(emotion, strength, int(rng.integers(2)))
    units = len(ACTION_UNITS)
    chance, leak = rng.random(units), rng.random(units) * _LEAK_MOST * intensity
    spread = rng.standard_normal((units, 3))
    sides = {}
    for row, unit in enumerate(ACTION_UNITS):
        if unit in base.sides and chance[row] >= _MISS:
            contractions, factor = base.sides[unit], math.exp(_UNIT_SPREAD * spread[row, 0])
        elif unit not in base.sides and chance[row] < _LEAK:
            contractions, factor = (float(leak[row]),) * 2, 1.0
        else:
            continue
        left, right = (
            min(max(contraction * factor * (1 + _SIDE_SPREAD * noise), 0.0), _STRONGEST)
            for contraction, noise in zip(contractions, spread[row, 1:], strict=True)
        )
        sides[unit] = left, right
    return Expression(sides, base.strength)


def habit(rng: Generator) -> Expression:
    """Draw what a person's face does all the time, whatever they feel: a few random action units."""
    shown, strength = rng.random(len(ACTION_UNITS)) < _HABIT, _HABIT_MOST * rng.random(len(ACTION_UNITS))
    units = zip(ACTION_UNITS, strength.tolist(), shown, strict=True)
    return Expression({unit: (value, value) for unit, value, is_shown in units if is_shown})


def combined(first: Expression, second: Expression) -> Expression:
    """Combine two expressions; the contractions of a unit add up, and the strength is that of the first."""
    sides = dict(first.sides)
    for unit, (left, right) in second.sides.items():
        before = sides.get(unit, (0.0, 0.0))
        sides[unit] = (min(before[0] + left, _STRONGEST), min(before[1] + right, _STRONGEST))
    return Expression(sides, first.strength)


def valence_arousal(emotion: str, strength: float, rng: Generator) -> tuple[float, float]:
    """Draw valence and arousal in -1..1: the emotion's point in the circumplex, scaled by its strength."""
    scale = min(strength, 1.0)
    noise = 0.05 * rng.standard_normal(2)
    valence, arousal = (scale * value + extra for value, extra in zip(_CIRCUMPLEX[emotion], noise, strict=True))
    return min(max(valence, -1.0), 1.0), min(max(arousal, -1.0), 1.0)


def confused(emotion: str, rng: Generator) -> str:
    """Draw the emotion that a face shows when its label ``emotion`` is wrong."""
    return str(rng.choice(CONFUSIONS[emotion]))

"""The plan of the drawn data set: who shows what in which picture, and the drawing of one picture.

A picture is a pure function of its Shot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.data.synthetic.action_units import Expression, combined, confused, habit, prototype, sample
from fer_lightning.data.synthetic.identity import Identity, draw_identity, dressed_anew
from fer_lightning.data.synthetic.photographs import Photograph, photograph

Proportions: TypeAlias = Literal["affectnet", "uniform"]

TRAIN, TEST, IDENTITIES, SHEET = range(4)
_TEST_IDENTITIES = 200
_TRAIN_PER_IDENTITY = 12
_TEST_NOISE = 0.2  # label noise of the test part over that of the training part
_PLAN, _PERSON, _PICTURE, _DRESS, _HABITS = range(5)  # streams of random numbers within a part


@dataclass(frozen=True)
class Shot:
    """One picture of the plan: who is to show what.

    Attributes:
        seed: of the whole set.
        part: TRAIN, TEST, IDENTITIES or SHEET; the same identity or index means another one in each.
        index: of the picture within its part.
        identity: number of the person.
        label: the emotion that the annotation says.
        intensity: typical strength of the action units.
        label_noise: chance that another emotion is shown.
    """

    seed: int
    part: int
    index: int
    identity: int
    label: str
    intensity: float
    label_noise: float


def class_counts(rows: int, proportions: Proportions) -> tuple[int, ...]:
    """Training pictures a class, in the order of EMOTIONS, by largest remainder; they sum to ``rows``."""
    shares = np.array(AFFECTNET_TRAIN_COUNTS if proportions == "affectnet" else [1] * len(EMOTIONS), float)
    exact = rows * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")[: rows - int(counts.sum())]
    counts[largest] += 1
    return tuple(int(count) for count in counts)


def stream(seed: int, part: int, *key: int) -> Generator:
    """A generator of its own for each (seed, part, key)."""
    return default_rng(SeedSequence(seed, spawn_key=(part, *key)))


def plan_training(
    rows: int, seed: int, proportions: Proportions, intensity: float, label_noise: float
) -> list[Shot]:
    """The training pictures, with about one person for every dozen of them."""
    people = -(-rows // _TRAIN_PER_IDENTITY)
    return _plan(seed, TRAIN, class_counts(rows, proportions), people, intensity, label_noise)


def plan_test(per_class: int, seed: int, intensity: float, label_noise: float) -> list[Shot]:
    """The test pictures: as many of each class, of people who are not in the training part."""
    counts = (per_class,) * len(EMOTIONS)
    return _plan(seed, TEST, counts, _TEST_IDENTITIES, intensity, _TEST_NOISE * label_noise)


def plan_identities(count: int, per_identity: int, seed: int, intensity: float) -> list[Shot]:
    """Pictures of people who are in neither part, one person after the other, with any emotion."""
    emotions = stream(seed, IDENTITIES, _PLAN).choice(EMOTIONS, count * per_identity)
    return [
        Shot(seed, IDENTITIES, index, index // per_identity, str(emotion), intensity, 0.0)
        for index, emotion in enumerate(emotions)
    ]


def _plan(
    seed: int, part: int, counts: Sequence[int], people: int, intensity: float, label_noise: float
) -> list[Shot]:
    """Who shows what: labels in random order, everybody about equally often."""
    rng = stream(seed, part, _PLAN)
    labels = rng.permutation(np.repeat(EMOTIONS, counts))
    who = rng.permutation(np.arange(len(labels)) % people)
    return [
        Shot(seed, part, index, int(identity), str(label), intensity, label_noise)
        for index, (identity, label) in enumerate(zip(who, labels, strict=True))
    ]


def person(shot: Shot) -> Identity:
    """Who is pictured. For pre-training they come in other hair and clothes each time.

    Otherwise these would tell who it is, and a network would learn nothing about faces.
    """
    face = draw_identity(stream(shot.seed, shot.part, _PERSON, shot.identity))
    if shot.part == IDENTITIES:
        return dressed_anew(face, stream(shot.seed, shot.part, _DRESS, shot.index))
    return face


def shown_emotion(shot: Shot) -> tuple[str, Generator]:
    """The emotion that is drawn, the label's or one it is confused with, and the picture's generator."""
    rng = stream(shot.seed, shot.part, _PICTURE, shot.index)
    return (confused(shot.label, rng) if rng.random() < shot.label_noise else shot.label), rng


def take(shot: Shot) -> tuple[Photograph, Expression, Generator]:
    """The photograph, the expression it shows and the generator as it stands after drawing.

    For pre-training everybody has habits, expressions of their own that mean nothing: a network that tells
    people apart must then see what a face does, as one trained on pictures of real people must.
    """
    emotion, rng = shown_emotion(shot)
    expression = sample(emotion, shot.intensity, rng)
    if shot.part == IDENTITIES:
        habits = stream(shot.seed, shot.part, _HABITS, shot.identity)
        expression = combined(expression, habit(habits))
    return photograph(person(shot), expression, rng), expression, rng


def clear_example(shot: Shot) -> Photograph:
    """The same person with the textbook expression, from the front and in plain light."""
    rng = stream(shot.seed, shot.part, _PICTURE, shot.index)
    return photograph(person(shot), prototype(shot.label), rng, plain=True)

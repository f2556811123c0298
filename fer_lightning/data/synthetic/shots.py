"""The plan of the drawn data set: who shows which emotion in which picture, and the drawing of one picture.

A picture is a pure function of its Shot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.synthetic.action_units import Expression, combined, confused, habit, prototype, sample
from fer_lightning.data.synthetic.identity import Identity, draw_identity, dressed_anew
from fer_lightning.data.synthetic.photographs import Photograph, photograph

Proportions: TypeAlias = Literal["affectnet", "uniform"]

INTENSITY = 1.1
TEST_PER_CLASS = 300

TRAIN, TEST, IDENTITIES, SHEET = range(4)
_TEST_IDENTITIES = 200
_TRAIN_PER_IDENTITY = 12
_TEST_NOISE = 0.2  # label noise of the test part over that of the training part
_PLAN, _PERSON, _PICTURE, _DRESS, _HABITS = range(5)  # streams of random numbers within a part


@dataclass(frozen=True)
class Parameters:
    """The numbers that decide what a drawn data set shows.

    Args:
        rows: number of training pictures.
        seed: seed of everything drawn.
        proportions: whether the training classes are as frequent as AffectNet's, or equally frequent.
        intensity: typical strength of the action units, 1 being the clear prototype.
        label_noise: share of training faces that show a confusable emotion instead of their label's; the
            test part has a fifth of it.
        test_per_class: number of test pictures of each class.

    Raises:
        UserError: a number lies outside its range.
    """

    rows: int
    seed: int
    proportions: Proportions = "affectnet"
    intensity: float = INTENSITY
    label_noise: float = 0.15
    test_per_class: int = TEST_PER_CLASS

    def __post_init__(self) -> None:
        if self.rows < 1 or self.test_per_class < 1:
            raise UserError(
                f"a drawn data set needs pictures in both parts, not rows={self.rows} and "
                f"test_per_class={self.test_per_class}"
            )
        if self.intensity <= 0 or not 0 <= self.label_noise < 1:
            raise UserError(
                f"a drawn data set needs intensity above 0 and label_noise from 0 to below 1, not "
                f"intensity={self.intensity} and label_noise={self.label_noise}"
            )


@dataclass(frozen=True)
class Shot:
    """One picture of the plan: a person who is to show an emotion.

    Attributes:
        seed: seed of the whole set.
        part: TRAIN, TEST, IDENTITIES or SHEET; the same identity or index means another one in each.
        index: number of the picture within its part.
        identity: number of the person.
        label: the emotion in the annotation.
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
    """Return training pictures per class, in the order of EMOTIONS, by largest remainder; they sum to ``rows``."""
    shares = np.array(AFFECTNET_TRAIN_COUNTS if proportions == "affectnet" else [1] * len(EMOTIONS), float)
    exact = rows * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")[: rows - int(counts.sum())]
    counts[largest] += 1
    return tuple(int(count) for count in counts)


def stream(seed: int, part: int, *key: int) -> Generator:
    """Return the generator that belongs to (seed, part, key) alone."""
    return default_rng(SeedSequence(seed, spawn_key=(part, *key)))


def plan_training(parameters: Parameters) -> list[Shot]:
    """Plan the training pictures, with about one person for every dozen of them."""
    counts = class_counts(parameters.rows, parameters.proportions)
    people = -(-parameters.rows // _TRAIN_PER_IDENTITY)
    return _plan(parameters, TRAIN, counts, people, parameters.label_noise)


def plan_test(parameters: Parameters) -> list[Shot]:
    """Plan the test pictures: equally many per class, of people who are not in the training part."""
    counts = (parameters.test_per_class,) * len(EMOTIONS)
    return _plan(parameters, TEST, counts, _TEST_IDENTITIES, _TEST_NOISE * parameters.label_noise)


def plan_identities(count: int, per_identity: int, seed: int, intensity: float) -> list[Shot]:
    """Plan pictures of people who are in neither part, one person after the other, with any emotion."""
    emotions = stream(seed, IDENTITIES, _PLAN).choice(EMOTIONS, count * per_identity)
    return [
        Shot(seed, IDENTITIES, index, index // per_identity, str(emotion), intensity, 0.0)
        for index, emotion in enumerate(emotions)
    ]


def _plan(parameters: Parameters, part: int, counts: Sequence[int], people: int, label_noise: float) -> list[Shot]:
    """Assign labels in random order to people, each about equally often."""
    rng = stream(parameters.seed, part, _PLAN)
    labels = rng.permutation(np.repeat(EMOTIONS, counts))
    identities = rng.permutation(np.arange(len(labels)) % people)
    return [
        Shot(parameters.seed, part, index, int(identity), str(label), parameters.intensity, label_noise)
        for index, (identity, label) in enumerate(zip(identities, labels, strict=True))
    ]


def person(shot: Shot) -> Identity:
    """Return who is pictured. For pre-training, people have other hair and clothes in each picture.

    Otherwise hair and clothes would identify them, and a network would learn nothing about faces.
    """
    face = draw_identity(stream(shot.seed, shot.part, _PERSON, shot.identity))
    if shot.part == IDENTITIES:
        return dressed_anew(face, stream(shot.seed, shot.part, _DRESS, shot.index))
    return face


def shown_emotion(shot: Shot) -> tuple[str, Generator]:
    """Return the emotion that is drawn, the label's or a confusable one, and the picture's generator."""
    rng = stream(shot.seed, shot.part, _PICTURE, shot.index)
    return (confused(shot.label, rng) if rng.random() < shot.label_noise else shot.label), rng


def take(shot: Shot) -> tuple[Photograph, Expression, Generator]:
    """Return the photograph, the expression it shows, and the generator in its state after drawing.

    For pre-training, people have habitual expressions that mean nothing. To tell them apart, a network must
    then see what a face does, as one that is trained on pictures of real people must.
    """
    emotion, rng = shown_emotion(shot)
    expression = sample(emotion, shot.intensity, rng)
    if shot.part == IDENTITIES:
        expression = combined(expression, habit(stream(shot.seed, shot.part, _HABITS, shot.identity)))
    return photograph(person(shot), expression, rng), expression, rng


def clear_example(shot: Shot) -> Photograph:
    """Draw the same person with the textbook expression, from the front and in plain light."""
    rng = stream(shot.seed, shot.part, _PICTURE, shot.index)
    return photograph(person(shot), prototype(shot.label), rng, plain=True)

"""A data set of drawn faces in AffectNet's first layout, to try the framework without a data set.

Faces show action units of the Facial Action Coding System (Ekman & Friesen 1978). Every picture is a pure
function of the seed, its part (training, test, identities), its index and its row of the plan, so any
number of processes writes the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import atomic_folder
from fer_lightning.data.counting import Progress
from fer_lightning.data.readers.affectnet import COLUMNS
from fer_lightning.data.store.crop import Pixels, encode
from fer_lightning.data.store.workers import processes_for, workers
from fer_lightning.data.synthetic.action_units import valence_arousal
from fer_lightning.data.synthetic.shots import (
    INTENSITY,
    SHEET,
    TRAIN,
    Parameters,
    Shot,
    clear_example,
    plan_identities,
    plan_test,
    plan_training,
    take,
)

VERSION = 2
"""Grows with every change to what is drawn: stored sets of another version are not taken for this one's."""

PARAMETERS = "parameters.json"
"""The file in a drawn data set that states the numbers it was drawn with."""

_LISTS, _PICTURES = "Manually_Annotated_file_lists", "Manually_Annotated_Images"
_CHUNK = 64
_WORTH_A_PROCESS = 512  # pictures below which starting a process takes longer than drawing them

Result = TypeVar("Result")


def generate(
    folder: Path, parameters: Parameters, progress: Progress | None = None, processes: int | None = None
) -> None:
    """Write a data set of drawn faces in AffectNet's first layout; the folder is whole or absent afterwards.

    The test part (validation.csv) is balanced, shows other people than the training part, and depends on
    neither ``rows`` nor ``proportions``.

    Args:
        folder: where to write; must not exist.
        parameters: the numbers that decide what is drawn.
        progress: callback that receives (pictures drawn, pictures).
        processes: number of processes; None starts as many as pay off. It does not change a byte.

    Raises:
        UserError: the folder exists.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already; name a folder that does not, or delete it")
    train = plan_training(parameters)
    shots = [*train, *plan_test(parameters)]
    with atomic_folder(folder) as partial_folder:
        for shot in shots:
            (partial_folder / _PICTURES / _folder_of(shot)).mkdir(parents=True, exist_ok=True)
        lines = _spread(partial(_write, partial_folder), shots, progress, processes)
        _write_list(partial_folder / _LISTS / "training.csv", lines[: len(train)])
        _write_list(partial_folder / _LISTS / "validation.csv", lines[len(train) :])
        text = json.dumps(drawn_with(parameters), indent=2)
        (partial_folder / PARAMETERS).write_text(text + "\n", encoding="utf-8")


def drawn_with(parameters: Parameters) -> dict[str, int | float | str]:
    """Return what decides the pictures of a drawn data set, as its folder states it."""
    return {"version": VERSION, **vars(parameters)}


def identities(
    count: int,
    per_identity: int,
    size: int,
    seed: int,
    margin: float = 0.0,
    intensity: float = 0.25,
    processes: int | None = None,
) -> tuple[Pixels, NDArray[np.int64]]:
    """Draw face crops of people who are in no data set of ``generate``, to pre-train a backbone on who is who.

    Each person has habitual expressions beside mild ones of any emotion, and comes in other hair, clothes and
    light each time: only the face and its habits stay the same.

    Args:
        count: number of people.
        per_identity: crops of each person, with any emotion, pose, light and mishap.
        size: side of a crop in pixels.
        seed: seed of everything drawn.
        margin: share of its size by which the face's box grows on every side before it is cut out.
        intensity: typical strength of the action units.
        processes: number of processes; None starts as many as pay off.

    Returns:
        RGB crops (count * per_identity, size, size, 3) and the identity of each (count * per_identity,).
    """
    shots = plan_identities(count, per_identity, seed, intensity)
    crops = _spread(partial(_crop, size, margin), shots, None, processes)
    return np.stack(crops), np.array([shot.identity for shot in shots], np.int64)


def _folder_of(shot: Shot) -> str:
    return f"{'train' if shot.part == TRAIN else 'test'}-{shot.identity:05d}"


def _write(folder: Path, shot: Shot) -> tuple[str, ...]:
    """Draw and store one picture, and return its line of the annotation file."""
    photo, expression, rng = take(shot)
    name = hashlib.sha256(f"{shot.seed} {shot.part} {shot.index}".encode()).hexdigest()[:40]
    path = f"{_folder_of(shot)}/{name}.jpg"
    (folder / _PICTURES / path).write_bytes(_encode(photo.pixels, "jpeg"))
    valence, arousal = valence_arousal(shot.label, expression.strength, rng)
    points = ";".join(f"{value:.2f}" for value in photo.landmarks.ravel())
    box = tuple(str(value) for value in photo.box)
    return (path, *box, points, str(EMOTIONS.index(shot.label)), f"{valence:.6f}", f"{arousal:.6f}")


def _encode(picture: Pixels, codec: Literal["jpeg", "png"]) -> bytes:
    return encode(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), np.uint8), codec)


def _crop(size: int, margin: float, shot: Shot) -> Pixels:
    return take(shot)[0].crop(size, margin)


def _write_list(path: Path, lines: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *lines])


def _spread(
    work: Callable[[Shot], Result], shots: Sequence[Shot], progress: Progress | None, processes: int | None
) -> list[Result]:
    """Return the results of ``work`` in the order of the shots, from as many processes as pay off."""
    chunks = [shots[start : start + _CHUNK] for start in range(0, len(shots), _CHUNK)]
    results: list[Result] = []
    with workers(partial(_run, work), processes or processes_for(len(shots), _WORTH_A_PROCESS)) as run:
        for part in run(chunks):
            results += part
            if progress:
                progress(len(results), len(shots))
    return results


def _run(work: Callable[[Shot], Result], shots: Sequence[Shot]) -> list[Result]:
    return [work(shot) for shot in shots]


def contact_sheet(
    path: Path, seed: int = 0, intensity: float = INTENSITY, columns: int = 6, size: int = 96
) -> None:
    """Draw a PNG with a row for each class: clear examples, then typical ones as ``generate`` draws them.

    Args:
        path: file to write.
        seed: seed of the faces.
        intensity: typical strength of the action units in the typical examples.
        columns: examples of each kind.
        size: side of a face in pixels.
    """
    rows = []
    gap = np.full((size, size // 6, 3), 255, np.uint8)
    for row, emotion in enumerate(EMOTIONS):
        numbers = range(columns)
        shots = [Shot(seed, SHEET, row * columns + k, k, emotion, intensity, 0.0) for k in numbers]
        photos = [*map(clear_example, shots), *(take(shot)[0] for shot in shots)]
        faces = [photo.crop(size, margin=0.1) for photo in photos]
        name = np.full((size, size + size // 4, 3), 255, np.uint8)
        cv2.putText(name, emotion, (6, size // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.hstack([name, *faces[:columns], gap, *faces[columns:]]))
    path.write_bytes(_encode(np.vstack(rows), "png"))


if __name__ == "__main__":
    contact_sheet(Path(sys.argv[1]))

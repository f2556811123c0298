"""A data set of drawn faces in AffectNet's old layout: the framework can be tried with no data set at all.

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
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import atomic_folder
from fer_lightning.data.readers.affectnet import COLUMNS
from fer_lightning.data.store.workers import processes_for, workers
from fer_lightning.data.synthetic.action_units import valence_arousal
from fer_lightning.data.synthetic.canvas import Picture
from fer_lightning.data.synthetic.shots import (
    SHEET,
    TRAIN,
    Proportions,
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
"""The file in a generated folder that says which numbers it was drawn with."""

Progress: TypeAlias = Callable[[int, int], None]

TEST_PER_CLASS = 300
INTENSITY = 1.1
LABEL_NOISE = 0.15
_LISTS, _PICTURES = "Manually_Annotated_file_lists", "Manually_Annotated_Images"
_QUALITY = 95
_CHUNK = 64
_WORTH_A_PROCESS = 512  # pictures below which starting a process takes longer than drawing them

Result = TypeVar("Result")


def generate(
    folder: Path,
    rows: int,
    seed: int,
    proportions: Proportions = "affectnet",
    intensity: float = INTENSITY,
    label_noise: float = LABEL_NOISE,
    progress: Progress | None = None,
    processes: int | None = None,
    test_per_class: int = TEST_PER_CLASS,
) -> None:
    """Write a data set of drawn faces in AffectNet's old layout; the folder is whole or absent afterwards.

    The test part (validation.csv) is balanced, shows other people than the training part, and depends on
    neither ``rows`` nor ``proportions``.

    Args:
        folder: where; must not exist.
        rows: training pictures.
        seed: of everything.
        proportions: of the training classes: AffectNet's, or all the same.
        intensity: typical strength of the action units, 1 being the clear prototype.
        label_noise: share of training faces that show a confusable emotion instead of their label's; the
            test part has a fifth of it.
        progress: called with the pictures drawn and to be drawn.
        processes: how many draw; by default one a core. Does not change a byte.
        test_per_class: test pictures of each class.

    Raises:
        UserError: the folder exists, or a number lies outside its range.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already; name a folder that does not, or delete it")
    if rows < 1 or test_per_class < 1:
        raise UserError(f"a set needs pictures in both parts, not rows={rows}, test_per_class={test_per_class}")
    if intensity <= 0 or not 0 <= label_noise < 1:
        raise UserError(f"intensity={intensity} must be above 0, label_noise={label_noise} in 0..1")
    train = plan_training(rows, seed, proportions, intensity, label_noise)
    test = plan_test(test_per_class, seed, intensity, label_noise)
    with atomic_folder(folder) as partial_folder:
        for shot in (*train, *test):
            (partial_folder / _PICTURES / _folder_of(shot)).mkdir(parents=True, exist_ok=True)
        lines = _spread(partial(_write, partial_folder), [*train, *test], progress, processes)
        _write_list(partial_folder / _LISTS / "training.csv", lines[: len(train)])
        _write_list(partial_folder / _LISTS / "validation.csv", lines[len(train) :])
        drawn_with = parameters(rows, seed, proportions, intensity, label_noise, test_per_class)
        (partial_folder / PARAMETERS).write_text(json.dumps(drawn_with, indent=2) + "\n", encoding="utf-8")


def parameters(
    rows: int, seed: int, proportions: Proportions, intensity: float, label_noise: float, test_per_class: int
) -> dict[str, Any]:
    """Return what decides a set's pictures, as it is written into its folder; arguments as for ``generate``."""
    return {
        "version": VERSION,
        "rows": rows,
        "seed": seed,
        "proportions": proportions,
        "intensity": float(intensity),
        "label_noise": float(label_noise),
        "test_per_class": test_per_class,
    }


def identities(
    count: int,
    per_identity: int,
    size: int,
    seed: int,
    margin: float = 0.0,
    intensity: float = 0.25,
    processes: int | None = None,
) -> tuple[Picture, NDArray[np.int64]]:
    """Face crops of people whom generate never draws, to pre-train a backbone on who is who.

    Everybody has an expression of their own beside mild ones of any emotion, and comes in other hair,
    clothes and light each time: what stays is the face and what it does.

    Args:
        count: people.
        per_identity: crops of each, with any emotion, pose, light and mishap.
        size: side of a crop in pixels.
        seed: of everything.
        margin: by what share of its size the face's box is grown on every side before it is cut out.
        intensity: typical strength of the action units.
        processes: how many draw; by default one a core.

    Returns:
        RGB crops (count * per_identity, size, size, 3) and the identity of each (count * per_identity,).
    """
    shots = plan_identities(count, per_identity, seed, intensity)
    crops = _spread(partial(_crop, size, margin), shots, None, processes)
    return np.stack(crops), np.array([shot.identity for shot in shots], np.int64)


def _folder_of(shot: Shot) -> str:
    return f"{'train' if shot.part == TRAIN else 'test'}-{shot.identity:05d}"


def _write(folder: Path, shot: Shot) -> tuple[str, ...]:
    """Draw and store one picture; returns its line of the annotation file."""
    photo, expression, rng = take(shot)
    name = hashlib.sha256(f"{shot.seed} {shot.part} {shot.index}".encode()).hexdigest()[:40]
    path = f"{_folder_of(shot)}/{name}.jpg"
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not done:
        raise RuntimeError(f"OpenCV could not encode {path}")
    (folder / _PICTURES / path).write_bytes(data.tobytes())
    valence, arousal = valence_arousal(shot.label, expression.strength, rng)
    points = ";".join(f"{value:.2f}" for value in photo.landmarks.ravel())
    box = tuple(str(value) for value in photo.box)
    return (path, *box, points, str(EMOTIONS.index(shot.label)), f"{valence:.6f}", f"{arousal:.6f}")


def _crop(size: int, margin: float, shot: Shot) -> Picture:
    photo, _, _ = take(shot)
    return photo.crop(size, margin)


def _write_list(path: Path, lines: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(lines)


def _spread(
    work: Callable[[Shot], Result], shots: Sequence[Shot], progress: Progress | None, processes: int | None
) -> list[Result]:
    """The results of ``work`` in the order of the shots, from as many processes as pay off."""
    chunks = [shots[start : start + _CHUNK] for start in range(0, len(shots), _CHUNK)]
    results: list[Result] = []
    with workers(partial(_run, work), processes or processes_for(len(shots), _WORTH_A_PROCESS)) as working:
        for part in working(chunks):
            results += part
            if progress is not None:
                progress(len(results), len(shots))
    return results


def _run(work: Callable[[Shot], Result], shots: Sequence[Shot]) -> list[Result]:
    return [work(shot) for shot in shots]


def contact_sheet(
    path: Path, seed: int = 0, intensity: float = INTENSITY, columns: int = 6, size: int = 96
) -> None:
    """Draw a PNG with a row for each class: clear examples, then typical ones as generate draws them.

    Args:
        path: of the PNG.
        seed: of the faces.
        intensity: typical strength of the action units in the typical examples.
        columns: examples of each kind.
        size: side of a face in pixels.
    """
    rows = []
    for row, emotion in enumerate(EMOTIONS):
        shots = [
            Shot(seed, SHEET, row * columns + column, column, emotion, intensity, 0.0) for column in range(columns)
        ]
        clear = [clear_example(shot) for shot in shots]
        typical = [take(shot)[0] for shot in shots]
        name = np.full((size, size + size // 4, 3), 255, np.uint8)
        cv2.putText(name, emotion, (6, size // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        gap = np.full((size, size // 6, 3), 255, np.uint8)
        faces = [[photo.crop(size, margin=0.1) for photo in group] for group in (clear, typical)]
        rows.append(np.hstack([name, *faces[0], gap, *faces[1]]))
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


if __name__ == "__main__":
    contact_sheet(Path(sys.argv[1]))

"""From a detector's box to the framing that a model was trained with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from fer_lightning.core.errors import UserError
from fer_lightning.core.progress import track
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.store.crop import Box, Pixels, UnusableError, decode
from fer_lightning.inference.card import Fitted, Framing
from fer_lightning.inference.detectors import Detector, Found, find_faces
from fer_lightning.inference.pictures import AnyBox

ASSUMED = 1.09
"""Side of a ready crop by the root of the area of a detector's box: what FER2013's crops have."""

FEWEST = 20
"""Number of faces from which on a factor is fitted."""


class Fit(NamedTuple):
    """What was fitted over training pictures.

    Attributes:
        fitted: medians of factor and offset, and number of faces found.
        pictures: number of pictures that were looked at.
        quartiles: first and third quartile of factor, dx and dy.
    """

    fitted: Fitted
    pictures: int
    quartiles: dict[str, tuple[float, float]]


def training_faces(faces: Manifest, number: int) -> Iterator[tuple[Pixels, Box | None]]:
    """Yield a sample of a set's training pictures with their boxes, for ``fit_framing``.

    Args:
        faces: the set.
        number: number of pictures at most; those that cannot be read are left out.
    """
    rows = [row for row in faces.rows.to_pylist() if row["split"] == "train"]
    chosen = random.Random(0).sample(rows, min(number, len(rows)))
    pictures = faces.pictures([row["path"] for row in chosen])
    for row, picture in zip(track(chosen, "training faces"), pictures, strict=True):
        box = None if row["x"] is None else (row["x"], row["y"], row["width"], row["height"])
        with suppress(UnusableError):
            yield decode(picture), box


def fit_framing(pictures: Iterable[tuple[Pixels, Box | None]], detector: Detector, min_score: float = 0.5) -> Fit:
    """Fit how a detector's boxes are brought to the boxes of training pictures.

    Args:
        pictures: pictures (H, W, 3) of BGR with the face's box; None: the whole picture is the face.
        detector: finds the faces.
        min_score: score from which on a find is a face.

    Raises:
        UserError: the detector finds the face in too few pictures.
    """
    rows, seen = [], 0
    for picture, box in pictures:
        seen += 1
        x, y, width, height = box or (0, 0, picture.shape[1], picture.shape[0])
        found = [face for face in find_faces(detector, picture, around=box is None) if face.score >= min_score]
        face = _face_in(found, (x, y, width, height))
        if face is None:
            continue
        scale = (face.width * face.height) ** 0.5
        right, down = x + width / 2 - face.x - face.width / 2, y + height / 2 - face.y - face.height / 2
        rows.append([min(width, height) / scale, right / scale, down / scale])
    if len(rows) < FEWEST:
        raise UserError(
            f"framing: {detector.name} finds the face in {len(rows)} of {seen} training pictures, and {FEWEST} "
            "are needed; try another detector"
        )
    low, (factor, dx, dy), high = (np.percentile(rows, share, axis=0).tolist() for share in (25, 50, 75))
    quartiles = {name: (low[n], high[n]) for n, name in enumerate(("factor", "dx", "dy"))}
    return Fit(Fitted(factor=factor, dx=dx, dy=dy, faces=len(rows)), seen, quartiles)


def with_detector(framing: Framing, name: str, fitted: Fitted) -> Framing:
    """Return a framing that knows how to bring the boxes of one more detector to it."""
    return framing.model_copy(update={"detectors": {**framing.detectors, name: fitted}})


def _face_in(found: list[Found], box: tuple[float, float, float, float]) -> Found | None:
    """Return the largest find whose centre is in a box; None: there is none."""
    x, y, width, height = box
    inside = [
        face
        for face in found
        if x <= face.x + face.width / 2 < x + width and y <= face.y + face.height / 2 < y + height
    ]
    return max(inside, key=lambda face: face.width * face.height, default=None)


def to_framing(face: Found, framing: Framing, detector: str) -> AnyBox:
    """Return the box for ``Model.prepare`` that has a found face cut out as training faces were.

    Args:
        face: the detector's find.
        framing: the model's; without a fit for the detector, see ``assumption``.
        detector: its name.
    """
    fitted = framing.detectors.get(detector)
    if fitted is None and framing.faces != "crops":
        return face[:4]
    factor, dx, dy = (fitted.factor, fitted.dx, fitted.dy) if fitted else (ASSUMED, 0.0, 0.0)
    scale = (face.width * face.height) ** 0.5
    side = factor * scale
    if framing.faces == "crops":  # which had no margin, and prepare adds one to every box
        side /= 1 + 2 * framing.margin
    x, y = face.x + face.width / 2 + dx * scale, face.y + face.height / 2 + dy * scale
    return x - side / 2, y - side / 2, side, side


def assumption(framing: Framing, detector: str) -> str | None:
    """Return in words what is assumed of a detector's boxes; None: it was fitted."""
    if detector in framing.detectors:
        return None
    hint = "fer export --fit-framing fits it"
    if framing.faces == "crops":
        return (
            f"trained on ready crops, and how boxes of {detector} compare with them was not fitted; assumed: a "
            f"square of {ASSUMED} times the root of the box's area, as in FER2013; {hint}"
        )
    known = "" if framing.faces else " (an old model that does not tell)"
    return (
        f"trained on a set's boxes{known}, and how boxes of {detector} compare with them was not fitted; assumed: "
        f"they are alike, grown by the model's margin of {framing.margin:g}; {hint}"
    )

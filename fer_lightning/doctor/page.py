"""The doctor's report as one HTML page: counts, faults, copies side by side, and faces by class."""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from fer_lightning.core.templates import render
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.near_copies import likeness
from fer_lightning.data.store.crop import Recipe, UnusableError, crop
from fer_lightning.doctor import pictures
from fer_lightning.doctor.examination import SPLITS, Examined
from fer_lightning.doctor.kinds import MEANING, spoils
from fer_lightning.doctor.report import Report
from fer_lightning.doctor.twins import Twins

LISTED = 200
"""Faults of a kind that the page lists; the JSON file has all of them."""

PAIRED = {
    "cross_split_duplicate": "Copies across splits",
    "cross_split_near_duplicate": "Near copies across splits",
    "labels_disagree": "One picture, several labels",
}
"""Kinds of faults whose pictures are shown side by side, and their headings."""

SIDE = 64
"""Side of a face on the page, in pixels."""

_PAIRS = 24
_FACES = 15


def page(report: Report, manifest: Manifest, examined: Examined, recipe: Recipe) -> str:
    """Return the page. Its faces are read again, a sample that is the same each time.

    Args:
        report: what the data set holds and what is wrong with it.
        manifest: the data set, as it was examined.
        examined: what its pictures showed.
        recipe: how to cut out the faces that are shown; its codec is jpeg.
    """
    random = np.random.default_rng(0)
    pairs = {title: _sample_pairs(kind, examined, random) for kind, title in PAIRED.items()}
    sheet = _sample_faces(report.classes, examined, random)
    rows = {row for sample in pairs.values() for pair in sample for row in pair}
    rows |= {row for by_split in sheet.values() for sample in by_split.values() for row in sample}
    faces = _faces(manifest, examined, sorted(rows), recipe)
    counts: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for split, name, numbers in report.columns():
        counts[split][name] = numbers
    return render(
        Path(__file__).with_name("page.html.j2"),
        report=report,
        notes=[*report.notes, *report.tell_left_out()],
        total=sum(sum(by_class.values()) for by_class in report.counts.values()),
        counts=counts,
        spoils=spoils,
        meaning=MEANING,
        listed=LISTED,
        pairs={title: [pair for pair in sample if faces.keys() >= {*pair}] for title, sample in pairs.items()},
        sheet=sheet,
        faces=faces,
        ids={row: examined.rows["id"][row].as_py() for row in rows},
        labels={row: examined.rows["label"][row].as_py() for row in rows},
        splits={row: SPLITS[examined.split[row]] for row in rows},
        side=SIDE,
        private=not manifest.redistributable,
    )


def _sample_pairs(kind: str, examined: Examined, random: np.random.Generator) -> list[tuple[int, int]]:
    """Return a sample of the rows with a fault of a kind, each with the row that is most like it."""
    twins = [twin for twin in examined.twins if twin.kind == kind]
    sample = random.permutation(len(twins))[:_PAIRS]
    return [(twins[k].row, _closest(twins[k], examined)) for k in sorted(sample)]


def _closest(twins: Twins, examined: Examined) -> int:
    """Return the row that is most like the twins' own; where labels disagree, the first with another label."""
    labels = examined.rows["label"]
    if twins.kind == "labels_disagree":
        return next(row for row in twins.others if labels[row] != labels[twins.row])
    return max(twins.others[:50], key=lambda row: likeness(examined.thumbs[twins.row], examined.thumbs[row]))


def _sample_faces(
    classes: Sequence[str], examined: Examined, random: np.random.Generator
) -> dict[str, dict[str, list[int]]]:
    """Return a sample of the usable rows by class and split."""
    labels = np.array(examined.rows["label"].to_pylist(), dtype=object)
    sheet: dict[str, dict[str, list[int]]] = {name: {} for name in classes}
    for name in classes:
        for index, split in enumerate(SPLITS):
            rows = np.flatnonzero((labels == name) & (examined.split == index) & examined.usable)
            if len(rows):
                sheet[name][split] = sorted(random.permutation(rows)[:_FACES].tolist())
    return sheet


def _faces(manifest: Manifest, examined: Examined, rows: Sequence[int], recipe: Recipe) -> dict[int, str]:
    """Return small faces of some rows, ascending, as data URIs; one that has gone meanwhile is left out."""
    faces: dict[int, str] = {}
    for index in range(len(SPLITS)):
        part = [row for row in rows if examined.split[row] == index]
        if part:
            (chunk,) = pictures.faces(manifest, [examined.rows.take(pa.array(part))], recipe.margin)
            for row, picture, box in zip(part, chunk.pictures, chunk.boxes, strict=True):
                with suppress(UnusableError):
                    jpeg = crop(picture, manifest.links_within, box, recipe).image
                    faces[row] = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    return faces

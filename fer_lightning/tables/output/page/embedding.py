"""Embeddings in the plane: test pictures and the centers they were pulled to, placed together by t-SNE."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError, in_words
from fer_lightning.core.files import content_hash, file_hash, write_atomic
from fer_lightning.core.progress import track
from fer_lightning.evaluation.results import EMBEDDINGS
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import Picture, Section, Trained, shorten, slug, trained

PLACED = "embedding2d.npz"
"""Beside the embeddings: where they were placed, so that it is done once."""

POINTS = 500
PERPLEXITY = 30.0


class Embedded(NamedTuple):
    """Test pictures and one anchor a class.

    Attributes:
        points: (N, D).
        labels: (N,) class indices.
        anchors: (C, D) centers, or where the head has none the means of the classes' test pictures.
        has_centers: which of both.
    """

    points: FloatArray
    labels: npt.NDArray[np.int64]
    anchors: FloatArray
    has_centers: bool


def section(table: Table) -> Section:
    """A picture a row that was trained, of its first seed."""
    name, title = "embeddings", "Embeddings and centers"
    files = [(row, table.directory / row.runs[0].folder / EMBEDDINGS) for row in trained(table)]
    shown = [(row, file) for row, file in files if file.is_file()]
    if not shown:
        return Section(name, title, [f"These results were written without their embeddings ({EMBEDDINGS})."])
    pictures = []
    for k, (row, file) in enumerate(track(shown, "embeddings")):
        read = _read(file)
        pictures.append(_picture(k, row, read, _place(file, read), table.protocol["classes"]))
    sentences = [
        f"At most {POINTS} test pictures of the first seed and, large, the centers, placed in the plane together "
        "by t-SNE. It keeps neighbours together; distances between groups and their sizes mean nothing.",
        "Filled, with an edge: a class's center as the loss has it. Hollow: the head has no centers, and this is "
        "the mean of the class's test pictures.",
    ]
    if gone := [row.method for row, file in files if not file.is_file()]:
        sentences.append(f"Without embeddings: {', '.join(gone)}.")
    return Section(name, title, sentences, pictures)


def _read(file: Path) -> Embedded:
    """What a run kept, cut to POINTS pictures with all classes in their shares; a mean of no picture is NaN."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            points, labels = kept["embeddings"].astype(np.float64), kept["labels"].astype(np.int64)
            has_centers = "centers" in kept
            anchors = kept["centers" if has_centers else "class_means"].astype(np.float64)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: no embeddings of fer: {in_words(error)}; delete it to go without") from error
    if not has_centers:
        anchors[~np.isin(np.arange(len(anchors)), labels)] = np.nan
    order = np.argsort(labels, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(POINTS, len(order))).round().astype(int)]
    return Embedded(points[chosen], labels[chosen], anchors, has_centers)


def _place(file: Path, read: Embedded) -> FloatArray:
    """(N + C, 2) points and anchors; kept beside the embeddings and read from there the next time.

    An anchor that is not finite, of a class without pictures, is not placed: NaN.
    """
    key = content_hash([file_hash(file), POINTS, PERPLEXITY])
    kept = file.with_name(PLACED)
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(kept, allow_pickle=False) as there:
        if str(there["key"]) == key:
            return np.asarray(there["places"], np.float64)
    together = np.concatenate([read.points, read.anchors])
    finite = np.isfinite(together).all(1)
    places = np.full((len(together), 2), np.nan)
    places[finite] = _turned(_tsne(together[finite]))
    stream = io.BytesIO()
    np.savez(stream, key=key, places=places.astype(np.float32))
    with suppress(OSError):  # a folder that may only be read
        write_atomic(kept, stream.getvalue())
    return places


def _tsne(points: FloatArray) -> FloatArray:
    from sklearn.manifold import TSNE

    if len(points) < 4 or points.shape[1] < 2 or not points.std(0).any():
        return np.asarray(points[:, [0, -1]], np.float64)
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return np.asarray(TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(points), np.float64)


def _turned(places: FloatArray) -> FloatArray:
    """Turned so that they are wider than high, which t-SNE does not mind; the first is to the left and above."""
    centred = places - places.mean(0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    return np.asarray(turned * np.where(turned[0] < 0, 1, -1) * [1, -1], np.float64)


def nearest_is_own(read: Embedded) -> float:
    """Share of the points whose nearest anchor, in the embedding itself, is their own class's."""
    distances = np.linalg.norm(read.points[:, None] - read.anchors[None], axis=2)
    return float((np.where(np.isfinite(distances), distances, np.inf).argmin(1) == read.labels).mean())


def _picture(place: int, row: Trained, read: Embedded, places: FloatArray, classes: list[str]) -> Picture:
    drawn = figure_style.figure(3.7)
    panel = drawn.subplots()
    points, anchors = places[: len(read.points)], places[len(read.points) :]
    for k, (name, anchor) in enumerate(zip(classes, anchors, strict=True)):
        look = figure_style.series(k)
        mine = points[read.labels == k].T
        panel.plot(*mine, look["marker"], color=look["color"], markersize=4, markeredgewidth=0, alpha=0.75)
        panel.plot(
            *anchor[:, None],
            look["marker"],
            label=shorten(name, 14),
            markersize=11,
            markerfacecolor=look["color"] if read.has_centers else figure_style.PAPER,
            markeredgecolor=figure_style.INK if read.has_centers else look["color"],
            markeredgewidth=1.4,
            zorder=4,
        )
    panel.set_axis_off()
    panel.set_aspect("equal", adjustable="datalim")
    figure_style.legend_below(drawn, [panel], 4)
    what = "center" if read.has_centers else "class mean (the head has no centers)"
    told = f"{percent(nearest_is_own(read))} % of {len(read.points)} pictures lie nearest to their own {what}."
    kinds = f"{np.isfinite(anchors).all(1).sum()} {'centers' if read.has_centers else 'class means'}"
    present = len(set(read.labels.tolist()))
    seen = f"{row.method}: {len(points)} test pictures of {present} classes and {kinds}. {told}"
    return Picture(f"embeddings-{slug(place, row.method)}", row.method, told, seen, figure_style.svg(drawn))

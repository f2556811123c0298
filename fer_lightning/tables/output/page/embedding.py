"""Embeddings of test pictures and the centers of their classes, placed in the plane together by t-SNE."""

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
from fer_lightning.tables.output.page.section import Picture, Section, Trained, shorten, trained

PLACED = "embedding2d.npz"
"""File beside the embeddings that keeps their positions, so that t-SNE runs once."""

POINTS = 500
PERPLEXITY = 30.0


class Embedded(NamedTuple):
    """Embeddings of test pictures and one anchor for each class.

    Attributes:
        points: embeddings (N, D).
        labels: class indices (N,).
        anchors: centers (C, D); where the head has none, the means of the classes' test pictures.
        has_centers: whether the anchors are centers.
    """

    points: FloatArray
    labels: npt.NDArray[np.int64]
    anchors: FloatArray
    has_centers: bool


def section(table: Table) -> Section:
    """Return a figure for each trained row, of its first seed."""
    files = [(row, table.directory / row.runs[0].folder / EMBEDDINGS) for row in trained(table)]
    shown = [(row, file) for row, file in files if file.is_file()]
    pictures = [
        _picture(k, row, file, table.protocol["classes"])
        for k, (row, file) in enumerate(track(shown, "embeddings") if shown else ())
    ]
    return Section(pictures, [row.method for row, file in files if not file.is_file()], {"points": POINTS})


def _read(file: Path) -> Embedded:
    """Return a run's embeddings, cut to POINTS pictures with every class in its share.

    The anchor of a class without a picture is NaN where it would be a mean.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            points, labels = arrays["embeddings"].astype(np.float64), arrays["labels"].astype(np.int64)
            has_centers = "centers" in arrays
            anchors = arrays["centers" if has_centers else "class_means"].astype(np.float64)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: no embeddings of fer: {in_words(error)}; delete it to go without") from error
    if not has_centers:
        anchors[~np.isin(np.arange(len(anchors)), labels)] = np.nan
    order = np.argsort(labels, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(POINTS, len(order))).round().astype(int)]
    return Embedded(points[chosen], labels[chosen], anchors, has_centers)


def _positions(file: Path, embedded: Embedded) -> FloatArray:
    """Return the positions (N + C, 2) of points and anchors; a file beside the embeddings keeps them.

    The position of an anchor that is not finite, of a class without pictures, is NaN.
    """
    key = content_hash([file_hash(file), POINTS, PERPLEXITY])
    cache = file.with_name(PLACED)
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(cache, allow_pickle=False) as arrays:
        if str(arrays["key"]) == key:
            return np.asarray(arrays["places"], np.float64)
    vectors = np.concatenate([embedded.points, embedded.anchors])
    finite = np.isfinite(vectors).all(1)
    positions = np.full((len(vectors), 2), np.nan)
    positions[finite] = _turned(_tsne(vectors[finite]))
    stream = io.BytesIO()
    np.savez(stream, key=key, places=positions.astype(np.float32))
    with suppress(OSError):  # the folder may be read-only
        write_atomic(cache, stream.getvalue())
    return positions


def _tsne(points: FloatArray) -> FloatArray:
    from sklearn.manifold import TSNE

    if len(points) < 4 or points.shape[1] < 2 or not points.std(0).any():
        return np.asarray(points[:, [0, -1]], np.float64)
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return np.asarray(TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(points), np.float64)


def _turned(positions: FloatArray) -> FloatArray:
    """Return positions turned so that they are wider than high; the first is at the upper left.

    t-SNE does not determine the rotation.
    """
    centred = positions - positions.mean(0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    return np.asarray(turned * np.where(turned[0] < 0, 1, -1) * [1, -1], np.float64)


def nearest_is_own(embedded: Embedded) -> float:
    """Return the share of the points whose nearest anchor, in the embedding itself, is that of their class."""
    distances = np.linalg.norm(embedded.points[:, None] - embedded.anchors[None], axis=2)
    nearest = np.where(np.isfinite(distances), distances, np.inf).argmin(1)
    return float((nearest == embedded.labels).mean())


def _picture(index: int, row: Trained, file: Path, classes: list[str]) -> Picture:
    embedded = _read(file)
    positions = _positions(file, embedded)
    count = len(embedded.points)
    points, anchors = positions[:count], positions[count:]
    figure = figure_style.figure(3.7)
    panel = figure.subplots()
    for k, (name, anchor) in enumerate(zip(classes, anchors, strict=True)):
        style = figure_style.series(k)
        of_class = points[embedded.labels == k].T
        panel.plot(*of_class, style["marker"], color=style["color"], markersize=4, markeredgewidth=0, alpha=0.75)
        panel.plot(
            *anchor[:, None],
            style["marker"],
            label=shorten(name, 14),
            markersize=11,
            markerfacecolor=style["color"] if embedded.has_centers else figure_style.PAPER,
            markeredgecolor=figure_style.INK if embedded.has_centers else style["color"],
            markeredgewidth=1.4,
            zorder=4,
        )
    panel.set_axis_off()
    panel.set_aspect("equal", adjustable="datalim")
    figure_style.legend_below(figure, [panel], 4)
    own_anchor = "center" if embedded.has_centers else "class mean (the head has no centers)"
    caption = f"{percent(nearest_is_own(embedded))} % of {count} pictures lie nearest to their own {own_anchor}."
    anchor_count = f"{np.isfinite(anchors).all(1).sum()} {'centers' if embedded.has_centers else 'class means'}"
    class_count = len(set(embedded.labels.tolist()))
    description = f"{row.method}: {count} test pictures of {class_count} classes and {anchor_count}. {caption}"
    return figure_style.row_picture("embeddings", index, row.method, caption, description, figure)

"""A run's figures for a dashboard: plain numbers in, a matplotlib figure out, without pyplot and without faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_lightning.core.colours import BLACK, BLUE, GREEN, OLIVE, ORANGE, PURPLE, SKY, VERMILLION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.floating]

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK, OLIVE)
MARKERS = "osD^v<>P"
_OVER_LINES = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix (C, C) of counts, in percent of each label's images; rows are labels."""
    counts = np.asarray(matrix, dtype=np.float64)
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _figure(1.6 + 0.55 * len(classes), 1.4 + 0.5 * len(classes))
    axes = figure.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(percent):
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else "black")
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    axes.set_title("percent of the label's test images", loc="left")
    return figure


def class_recall(recall: Mapping[str, float | None]) -> Figure:
    """Draw the recall of each class as a bar and macro recall as a line; NaN for a class without images."""
    values = 100 * np.array([np.nan if value is None else value for value in recall.values()], dtype=np.float64)
    figure = _figure(5.2, 1.2 + 0.36 * len(values))
    axes = figure.subplots()
    axes.barh(range(len(values)), np.nan_to_num(values), color=COLOURS[0])
    for row, value in enumerate(values):
        text = "no images" if np.isnan(value) else f"{value:.1f}"
        axes.text(np.nan_to_num(value) + 1, row, text, va="center", bbox=_OVER_LINES)
    mean = float(np.nanmean(values))
    axes.axvline(mean, color=COLOURS[3], linestyle="--", linewidth=1)
    axes.set_yticks(range(len(values)), list(recall))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(0, 110)
    axes.set_xlabel(f"recall on the test images, percent; dashed: macro recall, {mean:.1f}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def embeddings(
    vectors: Floats,
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
    means: Floats,
    centers: Floats | None = None,
) -> Figure:
    """Draw test embeddings in the plane in which the class means lie furthest apart, with the centers.

    The plane is spanned by the first two principal components of the class means. It is a linear map: points that
    are near each other in the figure may be far apart in other directions, but distances in the plane are true.

    Args:
        vectors: embeddings (N, D).
        labels: class indices (N,).
        classes: names of the C classes.
        means: class means (C, D); NaN for a class without images.
        centers: centers of the head (C, D); None where it has none.
    """
    known = np.asarray(means, dtype=np.float64)[~np.isnan(means).any(1)]
    origin = known.mean(0)
    plane = np.linalg.svd(known - origin, full_matrices=True)[2][:2].T
    figure = _figure(7.0, 5.0)
    axes = figure.subplots()
    for k, name in enumerate(classes):
        look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        points = (np.asarray(vectors, dtype=np.float64)[labels == k] - origin) @ plane
        axes.scatter(points[:, 0], points[:, 1], s=8, alpha=0.45, linewidths=0, label=name, **look)
        if centers is not None:
            center = (np.asarray(centers[k], dtype=np.float64) - origin) @ plane
            axes.scatter(center[0], center[1], s=130, edgecolors="black", linewidths=1.2, zorder=3, **look)
    axes.set_xlabel("first direction of the class means")
    axes.set_ylabel("second direction")
    big = "large: the head's centers" if centers is not None else "the head has no centers"
    axes.set_title(f"{len(vectors):,} test embeddings; {big}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside right upper", frameon=False, markerscale=2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure


def pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """Return a figure as RGB pixels (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=120)

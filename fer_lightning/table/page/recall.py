"""Recall of each class against the number of its training images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.table.page import drawing
from fer_lightning.table.page.section import SPREAD, Picture, Section, noted, over_seeds, shorten
from fer_lightning.table.rows import Row, Table
from fer_lightning.table.stats import FloatArray
from fer_lightning.table.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def section(table: Table) -> Section:
    """A line a row over the classes' sizes; with many rows, those that the table is about in colour."""
    name, title = "recall", "Recall and class size"
    counts = {c: n for c, n in table.train_counts.items() if n > 0}
    known = [c for c in counts if any(_known(row, c) for row in table.present)]
    if not known:
        return Section(name, title, ["The results do not say how many training images and what recall the classes have."])
    classes = sorted(known, key=lambda c: counts[c])
    sizes = np.array([counts[c] for c in classes], dtype=np.float64)
    rows = noted(table)
    others = [row for row in table.present if row not in rows]
    sentences = [f"Mean over the seeds; bars: {SPREAD}. Left: few training images."]
    if others:
        sentences.append(f"In colour {len(rows)} of {len(table.present)} rows; the others are the thin lines.")
    if gone := [c for c in table.protocol["classes"] if c not in known]:
        sentences.append(f"Not drawn, for want of training or test images: {', '.join(gone)}.")
    drawn = drawing.figure(3.4 + 0.2 * len(rows))
    panel = drawn.subplots()
    for row in others:
        panel.plot(sizes, _recall(row, classes)[0], color=drawing.GREY, alpha=0.5, linewidth=0.7)
    for k, row in enumerate(rows):
        mean, low, high = _recall(row, classes)
        panel.errorbar(
            sizes * 1.015 ** (k - (len(rows) - 1) / 2),  # side by side, not upon each other
            mean,
            yerr=[mean - low, high - mean],
            label=shorten(row.method, 52),
            markersize=4.5,
            elinewidth=1,
            **drawing.series(k),
        )
    panel.set_xscale("log")
    panel.set_xlabel("training images of the class (log scale)")
    panel.set_ylabel("recall, percent")
    _name_classes(panel, classes, sizes)
    drawing.legend_below(drawn, panel, 1)
    seen = f"Recall in percent of {_listed(classes, sizes)}. " + " ".join(_told(row, classes) for row in rows)
    return Section(name, title, sentences, [Picture(name, "Recall by class", "", seen, drawing.svg(drawn))])


def _known(row: Row, name: str) -> bool:
    return name in row.class_recall and not math.isnan(row.mean_class_recall()[name])


def _recall(row: Row, classes: list[str]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, lowest and highest over the seeds, in percent, a class each."""
    nothing = np.full(len(row.seeds), np.nan)
    return over_seeds(100 * np.stack([row.class_recall.get(name, nothing) for name in classes], axis=1))


def _name_classes(panel: Axes, classes: list[str], sizes: FloatArray) -> None:
    """The classes' names along the top, moved apart, each with a line to its size."""
    low, high = panel.get_xlim()
    across = np.log(sizes / low) / np.log(high / low)
    for name, place, shown in zip(classes, across, drawing.spaced(across, 0.05, 0.01, 0.99), strict=True):
        panel.annotate(
            shorten(name, 16),
            (place, 1),
            (shown, 1.05),
            xycoords="axes fraction",
            textcoords="axes fraction",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=9.5,
            arrowprops={"arrowstyle": "-", "color": drawing.INK, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0},
        )
        panel.axvline(sizes[classes.index(name)], color=drawing.LINE, linewidth=0.8, zorder=0)
    panel.grid(False, axis="x", which="both")


def _listed(classes: list[str], sizes: FloatArray) -> str:
    return ", ".join(f"{name} ({int(size):,} training images)" for name, size in zip(classes, sizes, strict=True))


def _told(row: Row, classes: list[str]) -> str:
    means = row.mean_class_recall()
    return f"{row.method}: {', '.join(percent(means.get(name, math.nan)) for name in classes)}."

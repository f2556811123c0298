"""Recall of each class against the number of its training images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import OPEN, SPREAD, Picture, Section, noted, over_seeds, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def section(table: Table) -> Section:
    """A line a row over the classes' sizes; with many rows, those that the table is about in colour."""
    name, title = "recall", "Recall and class size"
    counts = {c: n for c, n in table.train_counts.items() if n > 0}
    known = [c for c in counts if any(_known(row, c) for row in table.present)]
    if not known:
        return Section(
            name, title, ["The results do not say how many training images and what recall the classes have."]
        )
    classes = sorted(known, key=lambda c: counts[c])
    sizes = np.array([counts[c] for c in classes], dtype=np.float64)
    rows = noted(table, OPEN if len(table.present) <= OPEN else OPEN - 1)  # the last colour is for all others
    others = [row for row in table.present if row not in rows]
    sentences = [
        f"Mean over the seeds; bars: {SPREAD}. Across: training images on a log scale, classes of almost the same "
        "size moved a little apart."
    ]
    if others:
        sentences.append(
            f"In colour {len(rows)} of {len(table.present)} rows; the others are the thin grey lines."
        )
    if gone := [c for c in table.protocol["classes"] if c not in known]:
        sentences.append(f"Not drawn, for want of training or test images: {', '.join(gone)}.")
    drawn = figure_style.figure(3.6 + 0.2 * len(rows))
    panel = drawn.subplots()
    places, step = _places(sizes)
    for row in others:
        panel.plot(places, _recall(row, classes)[0], color=figure_style.GREY, alpha=0.5, linewidth=0.7)
    for k, row in enumerate(rows):
        mean, low, high = _recall(row, classes)
        panel.errorbar(
            places * step ** ((k - (len(rows) - 1) / 2) / OPEN),  # bars side by side, not upon each other
            mean,
            yerr=[mean - low, high - mean],
            label=shorten(row.method, 52),
            markersize=4.5,
            elinewidth=1,
            **figure_style.series(k),
        )
    panel.set_ylabel("recall, percent")
    _name_classes(panel, classes, sizes, places)
    figure_style.legend_below(drawn, [panel], 1)
    seen = f"Recall in percent of {_listed(classes, sizes)}. " + " ".join(_told(row, classes) for row in rows)
    return Section(name, title, sentences, [Picture(name, "Recall by class", "", seen, figure_style.svg(drawn))])


def _known(row: Row, name: str) -> bool:
    return name in row.class_recall and not math.isnan(row.mean_class_recall()[name])


def _recall(row: Row, classes: list[str]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, lowest and highest over the seeds, in percent, a class each."""
    nothing = np.full(len(row.seeds), np.nan)
    return over_seeds(100 * np.stack([row.class_recall.get(name, nothing) for name in classes], axis=1))


def _places(sizes: FloatArray) -> tuple[FloatArray, float]:
    """Where the classes stand on the log axis, and the factor between two that are as close as may be."""
    low, high = np.log(sizes[0]), max(np.log(sizes[-1]), np.log(sizes[0]) + 1)
    gap = 0.06 * (high - low)
    return np.exp(figure_style.spaced(np.log(sizes), gap, low - gap, high + gap)), float(np.exp(gap))


def _name_classes(panel: Axes, classes: list[str], sizes: FloatArray, places: FloatArray) -> None:
    """The log axis, with the classes' names and sizes on top."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if sizes[-1] < 100 * sizes[0] else (1,)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("training images of the class (log scale)")
    panel.grid(False, axis="x", which="both")
    for name, size, place in zip(classes, sizes, places, strict=True):
        panel.axvline(place, color=figure_style.LINE, linewidth=0.8, zorder=0)
        panel.annotate(
            f"{shorten(name, 16)}, {int(size):,}",
            (place, 1.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=9.5,
        )


def _listed(classes: list[str], sizes: FloatArray) -> str:
    return ", ".join(f"{name} ({int(size):,} training images)" for name, size in zip(classes, sizes, strict=True))


def _told(row: Row, classes: list[str]) -> str:
    means = row.mean_class_recall()
    return f"{row.method}: {', '.join(percent(means.get(name, math.nan)) for name in classes)}."

"""Recall of each class against the number of its training images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import OPEN, Picture, Section, noted, over_seeds, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def section(table: Table) -> Section:
    """Return a figure with a line for each row over the classes' sizes; the most important rows have a colour."""
    counts = {name: count for name, count in table.train_counts.items() if count > 0}
    classes = [name for name in counts if any(_is_known(row, name) for row in table.present)]
    if not classes:
        return Section()
    classes.sort(key=counts.__getitem__)
    sizes = np.array([counts[name] for name in classes], dtype=np.float64)
    rows = noted(table, OPEN if len(table.present) <= OPEN else OPEN - 1)  # the last colour is for all others
    figure = figure_style.figure(3.6 + 0.2 * len(rows))
    panel = figure.subplots()
    positions, step = _positions(sizes)
    for row in table.present:
        if row not in rows:
            panel.plot(positions, _recall(row, classes)[0], color=figure_style.GREY, alpha=0.5, linewidth=0.7)
    for k, row in enumerate(rows):
        mean, low, high = _recall(row, classes)
        panel.errorbar(
            positions * step ** ((k - (len(rows) - 1) / 2) / OPEN),  # bars side by side, not upon each other
            mean,
            yerr=[mean - low, high - mean],
            label=shorten(row.method, 52),
            markersize=4.5,
            elinewidth=1,
            **figure_style.series(k),
        )
    panel.set_ylabel("recall, percent")
    _name_classes(panel, classes, sizes, positions)
    figure_style.legend_below(figure, [panel], 1)
    listed = ", ".join(f"{name} ({counts[name]:,} training images)" for name in classes)
    recalls = (f"{row.method}: {', '.join(map(percent, _means(row, classes)))}." for row in rows)
    description = f"Recall in percent of {listed}. {' '.join(recalls)}"
    return Section(
        [Picture("recall", "Recall by class", "", description, figure_style.svg(figure))],
        [name for name in table.protocol["classes"] if name not in classes],
        {"coloured": len(rows)},
    )


def _is_known(row: Row, name: str) -> bool:
    return name in row.class_recall and not math.isnan(row.mean_class_recall()[name])


def _recall(row: Row, classes: list[str]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, minimum and maximum over the seeds, in percent, (C,) each."""
    unknown = np.full(len(row.seeds), np.nan)
    return over_seeds(100 * np.stack([row.class_recall.get(name, unknown) for name in classes], axis=1))


def _positions(sizes: FloatArray) -> tuple[FloatArray, float]:
    """Return the classes' positions on the log axis, and the smallest factor between two of them."""
    low, high = np.log(sizes[0]), max(np.log(sizes[-1]), np.log(sizes[0]) + 1)
    gap = 0.06 * (high - low)
    return np.exp(figure_style.spaced(np.log(sizes), gap, low - gap, high + gap)), float(np.exp(gap))


def _name_classes(panel: Axes, classes: list[str], sizes: FloatArray, positions: FloatArray) -> None:
    """Draw the log axis, with the classes' names and sizes on top."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if sizes[-1] < 100 * sizes[0] else (1,)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("training images of the class (log scale)")
    panel.grid(False, axis="x", which="both")
    for name, size, position in zip(classes, sizes, positions, strict=True):
        panel.axvline(position, color=figure_style.LINE, linewidth=0.8, zorder=0)
        panel.annotate(
            f"{shorten(name, 16)}, {int(size):,}",
            (position, 1.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=9.5,
        )


def _means(row: Row, classes: list[str]) -> list[float]:
    means = row.mean_class_recall()
    return [means.get(name, math.nan) for name in classes]

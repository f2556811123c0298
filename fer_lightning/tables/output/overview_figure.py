"""A figure of a table: a line for each row, with every seed, the mean and its interval."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.core.colours import BLUE, ORANGE, VERMILLION
from fer_lightning.core.files import write_atomic
from fer_lightning.tables.analysis.comparisons import own
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.output.formats import DAGGER, heading, method, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEAN, SEED, BASELINE = BLUE, ORANGE, VERMILLION
_LABEL_WIDTH = 28
_LINE_INCHES = 0.19
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fer",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10,
}


def picture(table: Table, path: Path) -> None:
    """Write macro recall and accuracy of all rows as SVG on white, with text kept as text."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        draw(table).savefig(stream, format="svg", metadata={"Date": None})
    write_atomic(path, stream.getvalue())


def draw(table: Table) -> Figure:
    """Return the figure, drawn without pyplot: two panels side by side that share their rows."""
    from matplotlib.figure import Figure

    labels = [_label(row, table) for row in table.rows]
    heights = [max(2, label.count("\n") + 1) for label in labels]
    figure = Figure(figsize=(9, 1.9 + _LINE_INCHES * sum(heights)), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.06})
    middles = np.cumsum(heights) - np.array(heights) / 2
    for panel, metric in zip(panels, ("macro_recall", "accuracy"), strict=True):
        _plot(panel, table, metric, middles)
        panel.set_title(f"{heading(metric)}, percent", fontsize=11, loc="left")
    panels[0].set_yticks(middles, labels)
    panels[0].set_ylim(sum(heights) + 0.2, -0.2)
    panels[0].set_xlabel(
        f"From the {table.images:,} test images alone:\nstandard error {percent(table.image_error)} points",
        fontsize=9,
    )
    if any(row.abstract for row in table.rows):
        panels[1].set_xlabel(f"{DAGGER} compared in the paper's abstract", fontsize=9)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def _plot(panel: Axes, table: Table, metric: str, middles: np.ndarray) -> None:
    """Draw each row's mean and interval above its seeds, and the baseline's mean as a dashed line."""
    shown = [(row, y) for row, y in zip(table.rows, middles, strict=True) if row.seeds]
    means = [100 * row.mean(metric) for row, _ in shown]
    halves = [_half_width(row, metric) for row, _ in shown]
    heights = [y - 0.15 for _, y in shown]
    panel.errorbar(means, heights, xerr=halves, fmt="none", color=MEAN, capsize=3, label="95 % interval")
    panel.plot(means, heights, "o", color=MEAN, markersize=6, label="mean", zorder=3)
    single = [(100 * value, y + 0.4) for row, y in shown for value in row.values[metric]]
    panel.plot(*zip(*single, strict=True), "o", color=SEED, markersize=3.5, label="single seed", zorder=3)
    if base := table.baseline:
        panel.axvline(100 * base.mean(metric), color=BASELINE, linestyle="--", linewidth=1, label="plain baseline")
    # Where the width of the panel chooses the ticks, they change with the layout, which may then cut the last.
    panel.locator_params(axis="x", nbins=9, steps=[1, 2, 5, 10])
    panel.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _half_width(row: Row, metric: str) -> float:
    half = own(row, metric).half_width()
    return 0.0 if math.isnan(half) else 100 * half


def _label(row: Row, table: Table) -> str:
    missing = f" ({len(row.seeds)} of {len(table.seeds)} seeds)" if len(row.seeds) < len(table.seeds) else ""
    return textwrap.fill(f"{method(row)}{missing}", _LABEL_WIDTH)

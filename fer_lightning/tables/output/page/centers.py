"""Spread inside the classes against the distance between them, and the centers over the epochs."""

from __future__ import annotations

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.formats import decimal
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.history import History
from fer_lightning.tables.output.page.section import (
    Picture,
    Section,
    Trained,
    figures_by_row,
    over_seeds,
    shorten,
    trained,
)

DRIFT, SPREAD_OF_CENTERS = "center_drift/", "center_spread/"
_PANELS = {DRIFT: "center drift", SPREAD_OF_CENTERS: "D_k"}


def spread(table: Table) -> Section:
    """Return one figure with the ratio of both for each trained row."""
    rows = [(row.method, [r for run in row.runs if (r := ratio(run)) is not None]) for row in trained(table)]
    shown = [(method, ratios) for method, ratios in rows if ratios]
    if not shown:
        return Section()
    figure = figure_style.figure(0.9 + 0.42 * len(shown))
    panel = figure.subplots()
    for k, (method, ratios) in enumerate(shown):
        panel.annotate(shorten(method, 56), (0, k - 0.03), fontsize=9.5)
        panel.barh([k + 0.2], [np.mean(ratios)], 0.3, color=colours.SKY)
        panel.plot(ratios, np.full(len(ratios), k + 0.2), "o", color=figure_style.INK, markersize=3.5)
    panel.set_ylim(len(shown) - 0.4, -0.7)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    panel.set_xlim(0, 1.08 * max(max(ratios) for _, ratios in shown))
    panel.set_xlabel("spread inside / distance between")
    means = "; ".join(f"{method} {decimal(float(np.mean(ratios)))}" for method, ratios in shown)
    description = f"Spread inside a class over the distance between classes, mean over the seeds: {means}."
    picture = Picture("spread", "All rows", "", description, figure_style.svg(figure))
    return Section([picture], [method for method, ratios in rows if not ratios])


def ratio(run: FinishedRun) -> float | None:
    """Return the mean spread inside the classes over the mean distance between two class means.

    None where the result does not say.
    """
    geometry = run.result.geometry
    if geometry is None:
        return None
    within = np.array(list(geometry.within.values()), dtype=np.float64)
    between = np.array(geometry.between, dtype=np.float64)
    pairs = between[np.triu_indices(len(between), 1)]
    within, pairs = within[np.isfinite(within)], pairs[np.isfinite(pairs)]
    return float(within.mean() / pairs.mean()) if len(within) and len(pairs) and pairs.mean() > 0 else None


def movement(table: Table) -> Section:
    """Return a figure for each row whose head has centers: their drift and D_k over the epochs."""
    return figures_by_row(table, _history_of_centers, _movement)


def _history_of_centers(row: Trained) -> History | None:
    history = History(row.runs)
    return history if any(map(history.keys, _PANELS)) else None


def _movement(index: int, row: Trained, history: History | None) -> Picture:
    assert history is not None
    prefixes = [prefix for prefix in _PANELS if history.keys(prefix)]
    figure = figure_style.figure(1.1 + 1.7 * len(prefixes))
    first = min(history.first(prefix + name) for prefix in prefixes for name in history.keys(prefix))
    panels = np.atleast_1d(figure.subplots(len(prefixes), 1, sharex=True))
    ends = []
    for k, (panel, prefix) in enumerate(zip(panels, prefixes, strict=True)):
        last = []
        for j, name in enumerate(history.keys(prefix)):
            style = {"label": shorten(name, 14), "markersize": 3.5, "linewidth": 1.2, **figure_style.series(j)}
            history.line(panel, prefix + name, **style)
            last.append(f"{name} {decimal(_last(over_seeds(history.values(prefix + name))[0]))}")
        panel.set_ylabel(_PANELS[prefix])
        history.mark_stages(panel, named=k == 0, first=first)
        ends.append(f"{_PANELS[prefix]} after the last epoch: {', '.join(last)}")
    panels[-1].set_xlabel("epoch")
    figure_style.legend_below(figure, [panels[0]], 4)
    return figure_style.row_picture("centers", index, row.method, "", f"{row.method}: {'. '.join(ends)}.", figure)


def _last(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else float("nan")

"""Spread inside the classes and distance between them, and how the centers moved."""

from __future__ import annotations

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output.formats import decimal
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.history import History
from fer_lightning.tables.output.page.section import Picture, Section, Trained, over_seeds, shorten, slug, trained

DRIFT, SPREAD_OF_CENTERS = "center_drift/", "center_spread/"
_PANELS = {DRIFT: "center drift", SPREAD_OF_CENTERS: "D_k"}


def spread(table: Table) -> Section:
    """The ratio of both by row."""
    name, title = "spread", "Spread inside classes, distance between them"
    rows = [(row, [r for run in row.runs if (r := ratio(run)) is not None]) for row in trained(table)]
    shown = [(row, ratios) for row, ratios in rows if ratios]
    if not shown:
        return Section(name, title, ["These results were written without their embeddings' geometry."])
    drawn = figure_style.figure(0.9 + 0.42 * len(shown))
    panel = drawn.subplots()
    for k, (row, ratios) in enumerate(shown):
        panel.annotate(shorten(row.method, 56), (0, k - 0.03), fontsize=9.5)
        panel.barh([k + 0.2], [np.mean(ratios)], 0.3, color=colours.SKY)
        panel.plot(ratios, np.full(len(ratios), k + 0.2), "o", color=figure_style.INK, markersize=3.5)
    panel.set_ylim(len(shown) - 0.4, -0.7)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    panel.set_xlim(0, 1.08 * max(max(ratios) for _, ratios in shown))
    panel.set_xlabel("spread inside / distance between")
    means = "; ".join(f"{row.method} {decimal(float(np.mean(ratios)))}" for row, ratios in shown)
    seen = f"Spread inside a class over the distance between classes, mean over the seeds: {means}."
    sentences = [
        "Root mean squared distance of a class's test embeddings to their mean, mean over the classes, over the "
        "distance of two class means, mean over the pairs. Small: tight classes far apart. Bars: mean over the "
        "seeds; dots: each seed."
    ]
    if gone := [row.method for row, ratios in rows if not ratios]:
        sentences.append(f"Not written down for: {', '.join(gone)}.")
    return Section(name, title, sentences, [Picture(name, "All rows", "", seen, figure_style.svg(drawn))])


def ratio(run: FinishedRun) -> float | None:
    """Mean spread inside the classes over the mean distance between two; None where the result does not say."""
    geometry = run.result.geometry
    if geometry is None:
        return None
    within = np.array(list(geometry.within.values()), dtype=np.float64)
    between = np.array(geometry.between, dtype=np.float64)
    pairs = between[np.triu_indices(len(between), 1)]
    within, pairs = within[np.isfinite(within)], pairs[np.isfinite(pairs)]
    return float(within.mean() / pairs.mean()) if len(within) and len(pairs) and pairs.mean() > 0 else None


def movement(table: Table) -> Section:
    """A picture a row whose head has centers: their drift and D_k over the epochs, a line a class."""
    name, title = "centers", "Centers over the epochs"
    rows = [(row, History(row.runs)) for row in trained(table)]
    shown = [(row, told) for row, told in rows if told.keys(DRIFT) or told.keys(SPREAD_OF_CENTERS)]
    if not shown:
        return Section(name, title, ["No history of centers: the heads have none, or it was not written."])
    pictures = [_movement(k, row, told) for k, (row, told) in enumerate(shown)]
    sentence = (
        "A line a class, means over the seeds. Drift: how far a center is from the mean of its class, over that "
        "mean's distance from the mean of all. D_k = sum over j of ||c_j - c_k||² + 1, by which the cluster loss "
        "divides, grows where centers move apart."
    )
    return Section(name, title, [sentence], pictures)


def _movement(place: int, row: Trained, told: History) -> Picture:
    prefixes = [prefix for prefix in _PANELS if told.keys(prefix)]
    drawn = figure_style.figure(1.1 + 1.7 * len(prefixes))
    first = min(told.first(prefix + name) for prefix in prefixes for name in told.keys(prefix))
    panels = np.atleast_1d(drawn.subplots(len(prefixes), 1, sharex=True))
    for k, (panel, prefix) in enumerate(zip(panels, prefixes, strict=True)):
        for j, name in enumerate(told.keys(prefix)):
            label = shorten(name, 14)
            told.line(panel, prefix + name, label=label, markersize=3.5, linewidth=1.2, **figure_style.series(j))
        panel.set_ylabel(_PANELS[prefix])
        told.mark_stages(panel, named=k == 0, first=first)
    panels[-1].set_xlabel("epoch")
    figure_style.legend_below(drawn, [panels[0]], 4)
    ends = []
    for prefix in prefixes:
        last = {name: over_seeds(told.values(prefix + name))[0] for name in told.keys(prefix)}
        values = ", ".join(f"{name} {decimal(_last(line))}" for name, line in last.items())
        ends.append(f"{_PANELS[prefix]} after the last epoch: {values}")
    return Picture(
        f"centers-{slug(place, row.method)}",
        row.method,
        "",
        f"{row.method}: {'. '.join(ends)}.",
        figure_style.svg(drawn),
    )


def _last(line: np.ndarray) -> float:
    known = line[~np.isnan(line)]
    return float(known[-1]) if len(known) else float("nan")

"""The search before the table: macro recall on the minival by the values that were tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.analysis.rows import Row
from fer_lightning.tables.output import search_summary
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style, search_plane
from fer_lightning.tables.output.page.section import Picture, Section


def section(searches: Sequence[Mapping[str, Any]], rows: Sequence[Row] = ()) -> Section:
    """Return a figure with a panel for each row that searched two numbers, and one for each other row.

    Args:
        searches: ``search`` of table.json.
        rows: rows of the table.
    """
    planes = [search for search in searches if search_plane.is_plane(search)]
    others = [search for search in searches if not search_plane.is_plane(search)]
    drawn = search_plane.pictures(planes, rows)
    return Section(
        [*drawn, *(_picture(k, search) for k, search in enumerate(others))],
        facts={"apart": len(drawn), "others": len(others)},
    )


def _picture(index: int, search: Mapping[str, Any]) -> Picture:
    """Return the figure of a row, over its only number, or over a place on the axis for each point."""
    method, points, chosen = search["method"], search["points"], search["chosen"]
    order = sorted(range(len(points)), key=lambda k: points[k][0])
    labels = [", ".join(map(search_summary.in_short, points[k])) for k in order]
    means = [100 * float(np.mean(search["scores"][k])) for k in order]
    is_line = len(search["keys"]) == 1 and search_plane.are_numbers(points)
    places = [points[k][0] for k in order] if is_line else [*range(len(order))]
    figure = figure_style.figure(2.7 if is_line else 3.2)
    panel = figure.subplots()
    for place, k in zip(places, order, strict=True):
        scores = 100 * np.array(search["scores"][k])
        panel.plot(np.full(len(scores), place), scores, "o", color=colours.ORANGE, markersize=4)
    panel.plot(places, means, "D-", color=colours.BLUE, markersize=5)
    where = order.index(chosen)
    panel.plot([places[where]], [means[where]], "o", markersize=14, mfc="none", mec=colours.VERMILLION)
    panel.margins(x=0.1, y=0.18)
    if is_line:
        figure_style.tried_axis(panel, "x", places, 5)
    else:
        panel.set_xticks(places, labels, rotation=45, ha="right")
    panel.set_xlabel(", ".join(search["keys"]) + (" (log scale)" if panel.get_xscale() == "log" else ""))
    panel.set_ylabel("macro recall, %")
    caption = search_plane.chosen(search)
    scores_told = ", ".join(f"{label}: {percent(mean / 100)}" for label, mean in zip(labels, means, strict=True))
    description = (
        f"{method}: minival macro recall in percent by {', '.join(search['keys'])}: {scores_told}. {caption}"
    )
    return figure_style.row_picture("search", index, method, caption, description, figure)

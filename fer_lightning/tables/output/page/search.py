"""The search before the table: macro recall on the minival by the values of the key that all rows have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.output import search_summary
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import Picture, Section


def section(searches: Sequence[Mapping[str, Any]]) -> Section:
    """Return a figure for each row that was tuned.

    Args:
        searches: ``search`` of table.json.
    """
    return Section([_picture(k, search) for k, search in enumerate(searches)])


def _picture(index: int, search: Mapping[str, Any]) -> Picture:
    """Return the figure of a row: a place on the axis for each point, in the order of the first key's values."""
    method, points, chosen = search["method"], search["points"], search["chosen"]
    order = sorted(range(len(points)), key=lambda k: points[k][0])
    labels = [", ".join(map(search_summary.in_short, points[k])) for k in order]
    means = [100 * float(np.mean(search["scores"][k])) for k in order]
    figure = figure_style.figure(3.2)
    panel = figure.subplots()
    for place, k in enumerate(order):
        scores = 100 * np.array(search["scores"][k])
        panel.plot(np.full(len(scores), place), scores, "o", color=colours.ORANGE, markersize=4)
    panel.plot(means, "D-", color=colours.BLUE, markersize=5)
    place = order.index(chosen)
    panel.plot([place], [means[place]], "o", markersize=14, mfc="none", mec=colours.VERMILLION)
    panel.set_xticks(range(len(order)), labels, rotation=45, ha="right")
    panel.margins(x=0.1, y=0.18)
    panel.set_xlabel(", ".join(search["keys"]))
    panel.set_ylabel("macro recall, %")
    (told,) = search_summary.of_rows([search])
    edge = f", {' and '.join(told.edge)} at the edge of what was tried" if told.edge else ""
    caption = f"{', '.join(told.values)} was chosen{edge}."
    scores_told = ", ".join(f"{label}: {percent(mean / 100)}" for label, mean in zip(labels, means, strict=True))
    description = (
        f"{method}: minival macro recall in percent by {', '.join(search['keys'])}: {scores_told}. {caption}"
    )
    return figure_style.row_picture("search", index, method, caption, description, figure)

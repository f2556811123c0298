"""The search before the table: macro recall on the minival by the value that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import Picture, Section


def section(searches: Sequence[Mapping[str, Any]]) -> Section:
    """Return a figure for each row that was tuned.

    Args:
        searches: ``search`` of table.json.
    """
    return Section([_picture(k, search) for k, search in enumerate(item for item in searches if item["values"])])


def _picture(index: int, search: Mapping[str, Any]) -> Picture:
    method, key, chosen = search["method"], search["key"], search["chosen"]
    trials = sorted(zip(search["values"], search["scores"], strict=True))
    values = [value for value, _ in trials]
    means = [100 * float(np.mean(scores)) for _, scores in trials]
    labels = [f"{value:.2g}" for value in values]
    figure = figure_style.figure(2.7)
    panel = figure.subplots()
    for value, scores in trials:
        panel.plot(np.full(len(scores), value), 100 * np.array(scores), "o", color=colours.ORANGE, markersize=4)
    panel.plot(values, means, "D-", color=colours.BLUE, markersize=5)
    panel.plot([chosen], [means[values.index(chosen)]], "o", markersize=14, mfc="none", mec=colours.VERMILLION)
    if values[0] > 0:
        panel.set_xscale("log")
    panel.set_xticks([], minor=True)
    panel.set_xticks(values, labels, rotation=45 if len(values) > 5 else 0)
    panel.margins(x=0.1, y=0.18)
    panel.set_xlabel(f"{key}{' (log scale)' if values[0] > 0 else ''}")
    panel.set_ylabel("macro recall, %")
    edge = ", at the edge of the values that were tried" if search["edge"] else ""
    caption = f"{key} = {chosen:g} was chosen{edge}."
    scores = ", ".join(f"{label}: {percent(mean / 100)}" for label, mean in zip(labels, means, strict=True))
    description = f"{method}: minival macro recall in percent by {key}: {scores}. {caption}"
    return figure_style.row_picture("search", index, method, caption, description, figure)

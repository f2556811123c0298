"""What the search tried: the minival's macro recall by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import Picture, Section, slug


def section(searched: Sequence[Mapping[str, Any]]) -> Section:
    """A picture a row.

    Args:
        searched: ``search`` of table.json.
    """
    name, title = "search", "Search on the minival"
    tried = [one for one in searched if one["values"]]
    if not tried:
        return Section(name, title, ["Nothing was tuned in this table."])
    sentence = (
        "Macro recall on the minival by the value that was tried. Line: mean over the search's own seeds, dots: "
        "each of them; the ringed value was chosen. No trial saw the test set."
    )
    return Section(name, title, [sentence], [_picture(k, one) for k, one in enumerate(tried)])


def _picture(place: int, one: Mapping[str, Any]) -> Picture:
    tried = sorted(zip(one["values"], one["scores"], strict=True))
    values = [value for value, _ in tried]
    means = [100 * float(np.mean(scores)) for _, scores in tried]
    named = [f"{value:.2g}" for value in values]
    drawn = figure_style.figure(2.7)
    panel = drawn.subplots()
    for value, scores in tried:
        panel.plot(np.full(len(scores), value), 100 * np.array(scores), "o", color=colours.ORANGE, markersize=4)
    panel.plot(values, means, "D-", color=colours.BLUE, markersize=5)
    best = means[values.index(one["chosen"])]
    panel.plot([one["chosen"]], [best], "o", markersize=14, mfc="none", mec=colours.VERMILLION)
    if values[0] > 0:
        panel.set_xscale("log")
    panel.set_xticks([], minor=True)
    panel.set_xticks(values, named, rotation=45 if len(values) > 5 else 0)
    panel.margins(x=0.1, y=0.18)
    panel.set_xlabel(f"{one['key']}{' (log scale)' if values[0] > 0 else ''}")
    panel.set_ylabel("macro recall, %")
    edge = ", at the edge of what was tried" if one["edge"] else ""
    told = f"{one['key']} = {one['chosen']:g} chosen{edge}."
    listed = ", ".join(f"{name}: {percent(mean / 100)}" for name, mean in zip(named, means, strict=True))
    seen = f"{one['method']}: minival macro recall in percent by {one['key']}: {listed}. {told}"
    return Picture(f"search-{slug(place, one['method'])}", one["method"], told, seen, figure_style.svg(drawn))

"""What the search tried: the minival's macro recall by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_lightning.table.page import drawing
from fer_lightning.table.page.section import Picture, Section, slug
from fer_lightning.table.words import percent


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
    values = list(one["values"])
    is_scale = all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values)
    order = sorted(range(len(values)), key=lambda k: values[k]) if is_scale else list(range(len(values)))
    across = [values[k] if is_scale else float(place) for place, k in enumerate(order)]
    means = [100 * float(np.mean(one["scores"][k])) for k in order]
    drawn = drawing.figure(2.7)
    panel = drawn.subplots()
    for x, k in zip(across, order, strict=True):
        scores = one["scores"][k]
        panel.plot(np.full(len(scores), x), 100 * np.array(scores), "o", color=drawing.ORANGE, markersize=4)
    panel.plot(across, means, "D-", color=drawing.BLUE, markersize=5)
    named = [str(values[k]) for k in order]
    if one["chosen"] in values:
        best = order.index(values.index(one["chosen"]))
        panel.plot(
            [across[best]],
            [means[best]],
            "o",
            markersize=14,
            markerfacecolor="none",
            markeredgecolor=drawing.VERMILLION,
        )
    if is_scale:
        panel.set_xscale("log")
        panel.set_xticks(across, named)
        panel.set_xticks([], minor=True)
    else:
        panel.set_xticks(across, named)
    panel.margins(x=0.1, y=0.18)
    panel.set_xlabel(f"{one['key']}{' (log scale)' if is_scale else ''}")
    panel.set_ylabel("macro recall, percent")
    edge = ", at the edge of what was tried" if one.get("edge") else ""
    told = f"{one['key']} = {one['chosen']} chosen{edge}."
    scores = ", ".join(f"{name}: {percent(mean / 100)}" for name, mean in zip(named, means, strict=True))
    seen = f"{one['method']}: minival macro recall in percent by {one['key']}: {scores}. {told}"
    return Picture(f"search-{slug(place, one['method'])}", one["method"], told, seen, drawing.svg(drawn))

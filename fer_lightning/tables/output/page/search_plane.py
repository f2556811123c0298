"""How macro recall on the minival depends on two numbers, such as the learning rate and lambda: a panel a row."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.analysis.rows import Row
from fer_lightning.tables.output import search_summary
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import Picture, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

_COLUMNS = 2
_TITLE_WIDTH = 25

Search = Mapping[str, Any]


def is_plane(search: Search) -> bool:
    """Return whether a search is over two numbers."""
    return len(search["keys"]) == 2 and are_numbers(search["points"])


def are_numbers(points: Sequence[Sequence[Any]]) -> bool:
    """Return whether all values of all points are numbers."""
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) for point in points for value in point
    )


def chosen(search: Search) -> str:
    """Return a sentence on what a row's search chose."""
    (told,) = search_summary.of_rows([search])
    return f"{', '.join(told.values)} was chosen."


def pictures(searches: Sequence[Search], rows: Sequence[Row]) -> list[Picture]:
    """Return a figure for each pair of keys, all on one scale of colours.

    Args:
        searches: searches over two numbers.
        rows: rows of the table.
    """
    means = [mean for search in searches for mean in _means(search)]
    if not means:
        return []
    limits = (min(means), max(means)) if max(means) > min(means) else (means[0] - 0.5, means[0] + 0.5)
    by_keys: dict[tuple[str, str], list[Search]] = {}
    for search in searches:
        by_keys.setdefault((search["keys"][0], search["keys"][1]), []).append(search)
    by_method = {row.method: row for row in rows}
    return [_picture(k, group, by_method, limits) for k, group in enumerate(by_keys.values())]


def _means(search: Search) -> list[float]:
    return [100 * float(np.mean(scores)) for scores in search["scores"]]


def _rule(row: Row | None) -> str | None:
    """Return how the centers of a row move; None where its loss has none, or no run of it exists."""
    return row.runs[0].result.config["loss"].get("center_update") if row and row.runs else None


def _cells(searches: Sequence[Search], rows: Mapping[str, Row]) -> list[Search | None]:
    """Return the panels line by line; rows that differ in nothing but their centers' rule are side by side."""
    groups: dict[str, list[Search]] = {}
    for search in searches:
        row = rows.get(search["method"])
        alike = search["method"] if _rule(row) is None or row is None else _all_but_the_rule(row, search["keys"])
        groups.setdefault(alike, []).append(search)
    cells: list[Search | None] = []
    for group in sorted(groups.values(), key=len, reverse=True):
        cells += group
        if len(group) > 1:
            cells += [None] * (-len(group) % _COLUMNS)
    return cells


def _all_but_the_rule(row: Row, searched: Sequence[str]) -> str:
    """Return a row's config as text, without its seed, its centers' rule and the numbers that were searched."""
    config = json.loads(json.dumps(row.runs[0].result.config))
    for key in ("seed", "loss.center_update", *searched):
        *groups, name = key.split(".")
        inner = config
        for group in groups:
            inner = inner.get(group, {})
        inner.pop(name, None)
    return json.dumps([row.posthoc, config], sort_keys=True)


def _picture(
    index: int, searches: Sequence[Search], rows: Mapping[str, Row], limits: tuple[float, float]
) -> Picture:
    cells = _cells(searches, rows)
    columns = min(_COLUMNS, len(cells))
    cells += [None] * (-len(cells) % columns)
    lines = len(cells) // columns
    titles = [_title(cell, rows) if cell else "" for cell in cells]
    heights = [
        1.7 + 0.15 * max(t.count("\n") for t in titles[k : k + columns]) for k in range(0, len(cells), columns)
    ]
    figure = figure_style.figure(1.3 + sum(heights) + (0.5 if columns == 1 else 0))
    panels = figure.subplots(
        lines, columns, sharex=True, sharey=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    drawn = None
    for k, (panel, cell, title) in enumerate(zip(panels.flat, cells, titles, strict=True)):
        if cell is None:
            panel.set_axis_off()
            continue
        drawn = _panel(panel, cell, {"cmap": figure_style.scale(), "vmin": limits[0], "vmax": limits[1]})
        panel.set_title(title, fontsize=9.5, loc="left")
        if k % columns == 0:
            panel.set_ylabel(shorten(cell["keys"][1], 24))
        if k + columns >= len(cells) or cells[k + columns] is None:
            panel.set_xlabel(shorten(cell["keys"][0], 28))
            panel.tick_params(labelbottom=True)
    x, y = zip(*(point for search in searches for point in search["points"]), strict=True)
    figure_style.tried_axis(panels.flat[0], "x", x, 3)
    figure_style.tried_axis(panels.flat[0], "y", y, 4)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=panels, location="top", aspect=40, fraction=0.05)
    bar.set_label("mean macro recall on the minival, %")
    assert bar.solids is not None
    bar.solids.set_edgecolor("face")
    bar.outline.set_visible(False)
    keys = " and ".join(searches[0]["keys"])
    description = (
        f"Minival macro recall in percent by {keys}. {' '.join(_describe(cell, rows) for cell in cells if cell)}"
    )
    caption = "All panels have one scale of colours; a ring marks the chosen point."
    return Picture(f"search-plane-{index + 1:02d}", keys, caption, description, figure_style.svg(figure))


def _title(search: Search, rows: Mapping[str, Row]) -> str:
    rule = _rule(rows.get(search["method"]))
    name = textwrap.fill(shorten(search["method"], 2 * _TITLE_WIDTH), _TITLE_WIDTH)
    return f"{name}\n{rule} centers" if rule else name


def _panel(panel: Axes, search: Search, colour: Mapping[str, Any]) -> PathCollection:
    """Draw a row's points, coloured by their mean, with a ring around the chosen one."""
    x, y = zip(*search["points"], strict=True)
    points = panel.scatter(
        x, y, c=_means(search), s=48, edgecolors=figure_style.INK, linewidths=0.8, zorder=3, **colour
    )
    place = search["points"][search["chosen"]]
    panel.plot(
        *([value] for value in place), "o", markersize=13, mfc="none", mec=colours.VERMILLION, mew=2, zorder=4
    )
    return points


def _describe(search: Search, rows: Mapping[str, Row]) -> str:
    rule = _rule(rows.get(search["method"]))
    points = (
        f"{', '.join(map(search_summary.in_short, point))}: {percent(mean / 100)}"
        for point, mean in zip(search["points"], _means(search), strict=True)
    )
    return f"{search['method']}{f' ({rule} centers)' if rule else ''}: {'; '.join(points)}. {chosen(search)}"

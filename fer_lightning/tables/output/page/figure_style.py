"""How figures are drawn: one size and style, no pyplot, colours that follow the page's.

A figure has placeholders for what is black or white on paper. In the page they become CSS variables, so that a
picture is light where the page is; in a file for a paper they become the colours on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_lightning.core.colours import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from fer_lightning.core.html import text
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.page.section import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, LINE, PAPER = "#010203", "#040506", "#070809"
GREY = "#8c8c8c"
SERIES = (INK, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)
"""The colours of lines and dots, in this order; grey in place of a yellow that white swallows."""

MARKERS = "osD^vPX<>"
"""As many as have no factor in common with the colours: 72 pairs that differ."""

_ON_PAPER = {INK: "#1c2530", LINE: "#dfe4ea", PAPER: "#ffffff"}
_ON_PAGE = {
    INK: "var(--ink)",
    LINE: "var(--line)",
    PAPER: "var(--card)",
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    ORANGE: "var(--orange)",
    PURPLE: "var(--purple)",
    SKY: "var(--sky)",
    GREY: "var(--grey)",
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fer",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
}
_WIDTH = 4.6


def figure(height: float) -> Figure:
    """An empty figure, 4.6 inches wide: its letters can be read in a paper's column and on a phone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def series(k: int) -> dict[str, Any]:
    """Colour and marker of the k-th line."""
    return {"color": SERIES[k % len(SERIES)], "marker": MARKERS[k % len(MARKERS)]}


def legend_below(drawn: Figure, panels: Sequence[Axes], columns: int) -> None:
    """The panels' legend under the whole figure."""
    entries = [entry for panel in panels for entry in zip(*panel.get_legend_handles_labels(), strict=True)]
    handles, names = zip(*entries, strict=True)
    drawn.legend(handles, names, loc="outside lower left", ncols=columns, handlelength=1.8, columnspacing=1.2)


def spaced(places: FloatArray, gap: float, low: float, high: float) -> FloatArray:
    """Ascending places moved apart, at least ``gap`` between them where there is room, inside low to high."""
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    moved = np.clip(places, low, high)
    for k in range(1, len(moved)):
        moved[k] = max(moved[k], moved[k - 1] + gap)
    for k in range(len(moved) - 1, -1, -1):
        moved[k] = min(moved[k], high - gap * (len(moved) - 1 - k))
    return moved


def svg(drawn: Figure) -> str:
    """The figure's file with the placeholders in it, coordinates to a hundredth of a point."""
    stream = io.StringIO()
    nothing = dict.fromkeys(["Creator", "Date", "Format", "Type"])
    drawn.savefig(stream, format="svg", metadata=nothing)
    return re.sub(
        r' (d|x|y)="([^"]*)"',
        lambda m: f' {m[1]}="{re.sub(r"-?[0-9]+[.][0-9]+", _rounded, m[2])}"',
        stream.getvalue(),
    )


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def on_paper(drawn: str) -> str:
    """The figure as a file of its own: dark on white."""
    return _coloured(drawn, _ON_PAPER)


def on_page(picture: Picture) -> str:
    """The figure as a part of a page: in its colours, with names of its own, and what it shows in words."""
    drawn = _coloured(picture.svg, _ON_PAGE)
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("xlink:href", "href")
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', drawn))
    names = {name: f"{picture.name}-{k}" for k, name in enumerate(used)}
    drawn = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", drawn)
    drawn = re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{names[m[2]]}", drawn)
    drawn = _MARKERS_OF_A_LOOK.sub(_say_look_once, re.sub(r"\n\s*", "\n", drawn))
    box = re.search(r'viewBox="[^"]*"', drawn)
    assert box is not None
    inside = drawn[drawn.index(">") + 1 :].strip()
    return f'<svg {box[0]} role="img" aria-label="{text(picture.seen)}">{inside}'


_MARKERS_OF_A_LOOK = re.compile(r'<use ([^>]*) style="([^"]*)"/>(?:\n<use [^>]* style="\2"/>)+')


def _say_look_once(markers: re.Match[str]) -> str:
    """A run of equal markers with their style at its head: half the size."""
    style = f' style="{markers[2]}"'
    return f"<g{style}>{markers[0].replace(style, '')}</g>"


def _coloured(drawn: str, colours: dict[str, str]) -> str:
    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", lambda m: f"{m[1]}: {colours.get(m[2], m[2])}", drawn)

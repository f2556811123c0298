"""Style of the figures: one size, no pyplot, colours that follow the page's.

A figure has placeholders for what is black or white on paper. In the page they become CSS variables, so that the
figure follows the page's light or dark colours; in a file for a paper they become the colours on white.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fer_lightning.core.colours import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.page.section import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, LINE, PAPER = "#010203", "#040506", "#070809"
GREY = "#8c8c8c"
SERIES = (INK, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)
"""Colours of lines and dots, in this order; grey in place of yellow, which cannot be seen on white."""

MARKERS = "osD^vPX<>"
"""Their number has no factor in common with that of the colours: 72 different pairs."""

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
    """Return an empty figure, 4.6 inches wide: legible in a paper's column and on a phone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def series(k: int) -> dict[str, Any]:
    """Return colour and marker of the k-th line."""
    return {"color": SERIES[k % len(SERIES)], "marker": MARKERS[k % len(MARKERS)]}


def scale() -> Colormap:
    """Return colours of a scale from low to high, which grow lighter. None is a colour that the page replaces."""
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap

    steps = 32
    colours = LinearSegmentedColormap.from_list("scale", (BLUE, SKY, YELLOW))
    return ListedColormap(colours((np.arange(steps) + 0.5) / steps))


def legend_below(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """Draw the panels' legend under the whole figure."""
    entries = [entry for panel in panels for entry in zip(*panel.get_legend_handles_labels(), strict=True)]
    handles, names = zip(*entries, strict=True)
    figure.legend(handles, names, loc="outside lower left", ncols=columns, handlelength=1.8, columnspacing=1.2)


def tried_axis(panel: Axes, name: Literal["x", "y"], values: Sequence[float], most: int) -> None:
    """Let an axis show the numbers that were tried: logarithmic where all are positive, with few round ticks.

    Args:
        panel: where the axis is.
        name: which axis.
        values: numbers that were tried, on all panels that share the axis.
        most: number of ticks at most.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    low, high = min(values), max(values)
    axis = panel.xaxis if name == "x" else panel.yaxis
    if low > 0:
        panel.set(**{f"{name}scale": "log"})
        axis.set_major_locator(FixedLocator(_round_numbers(low, high, most)))
        axis.set_minor_locator(NullLocator())
        margin = (high / low) ** 0.12 if high > low else 2
        panel.set(**{f"{name}lim": (low / margin, high * margin)})
    else:
        axis.set_major_locator(MaxNLocator(most - 1))
        margin = 0.12 * (high - low) or 1
        panel.set(**{f"{name}lim": (low - margin, high + margin)})
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten between two positive numbers, and some between these where there are too few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) > 1:
            return ticks[:: math.ceil(len(ticks) / most)]
    return [low] if low == high else [low, high]


def spaced(positions: FloatArray, gap: float, low: float, high: float) -> FloatArray:
    """Return ascending positions moved apart, by ``gap`` where there is room, between ``low`` and ``high``."""
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    moved = np.clip(positions, low, high)
    for k in range(1, len(moved)):
        moved[k] = max(moved[k], moved[k - 1] + gap)
    for k in range(len(moved) - 1, -1, -1):
        moved[k] = min(moved[k], high - gap * (len(moved) - 1 - k))
    return moved


def svg(figure: Figure) -> str:
    """Return the figure as SVG with placeholders for colours, coordinates to a hundredth of a point."""
    stream = io.StringIO()
    no_metadata = dict.fromkeys(["Creator", "Date", "Format", "Type"])
    figure.savefig(stream, format="svg", metadata=no_metadata)
    return re.sub(
        r' (d|x|y)="([^"]*)"',
        lambda m: f' {m[1]}="{re.sub(r"-?[0-9]+[.][0-9]+", _rounded, m[2])}"',
        stream.getvalue(),
    )


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def row_picture(kind: str, index: int, method: str, caption: str, description: str, figure: Figure) -> Picture:
    """Return the figure of a row as a picture, whose file has the row's index and name in its own name."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in method)
    name = f"{kind}-{index + 1:02d}_{plain[:24].strip('_')}"
    return Picture(name, method, caption, description, svg(figure))


def on_paper(drawing: str) -> str:
    """Return a figure's SVG as a file of its own: dark on white."""
    return _coloured(drawing, _ON_PAPER)


def on_page(picture: Picture) -> tuple[str, str]:
    """Return a figure for the page, in its colours and with ids of its own: the viewBox, and the SVG in it."""
    drawing = _coloured(picture.svg, _ON_PAGE)
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawing, flags=re.DOTALL)
    drawing = drawing.replace("xlink:href", "href")
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', drawing))
    names = {name: f"{picture.name}-{k}" for k, name in enumerate(used)}
    drawing = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", drawing)
    drawing = re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{names[m[2]]}", drawing)
    drawing = _EQUAL_MARKERS.sub(_with_one_style, re.sub(r"\n\s*", "\n", drawing))
    view_box = re.search(r'viewBox="([^"]*)"', drawing)
    assert view_box is not None
    return view_box[1], drawing[drawing.index(">") + 1 :].strip()


_EQUAL_MARKERS = re.compile(r'<use ([^>]*) style="([^"]*)"/>(?:\n<use [^>]* style="\2"/>)+')


def _with_one_style(markers: re.Match[str]) -> str:
    """Return a run of equal markers with their style given once, which halves the size of the page."""
    style = f' style="{markers[2]}"'
    return f"<g{style}>{markers[0].replace(style, '')}</g>"


def _coloured(drawing: str, colours: dict[str, str]) -> str:
    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", lambda m: f"{m[1]}: {colours.get(m[2], m[2])}", drawing)

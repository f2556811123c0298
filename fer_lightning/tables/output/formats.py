"""Text of a table's numbers and names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.rows import Row
from fer_lightning.tables.analysis.statistics import ALPHA

TEMPLATES = Path(__file__).with_name("templates")
DAGGER = "†"
MISSING = "–"
EQUAL = "⁼"
"""Mark of a value that is not shown to be worse than the best of its column."""


def percent(value: float, *, sign: bool = False) -> str:
    """Return a share in percent with one decimal; a dash for NaN."""
    return MISSING if math.isnan(value) else _signed(f"{100 * value:.1f}", sign)


def points(value: float, *, sign: bool = False) -> str:
    """Return a difference in points with one decimal, or as many as show on which side of 0 it lies.

    So an interval as printed leaves out 0 exactly where the interval does.
    """
    shown = percent(value, sign=sign)
    if value == 0 or shown != percent(0):
        return shown
    return _signed(np.format_float_positional(100 * value, precision=1, fractional=False, trim="-"), sign)


def p_value(value: float) -> str:
    """Return "p = 0.012" with three decimals, or the side of 0.001 or 0.05 where these would hide it."""
    if value < 0.001:
        return "p < 0.001"
    shown = f"{value:.3f}"
    if float(shown) == ALPHA != value:
        return f"p {'<' if value < ALPHA else '>'} {ALPHA}"
    return f"p = {shown}"


def decimal(value: float) -> str:
    """Return a number with three decimals; a dash for NaN."""
    return MISSING if math.isnan(value) else _signed(f"{value:.3f}", False)


def _signed(number: str, plus: bool) -> str:
    """Return a number with a true minus sign, no sign before zero, and a plus sign if ``plus``."""
    magnitude = number.lstrip("-")
    if float(number) == 0:
        return magnitude
    return f"−{magnitude}" if number != magnitude else f"{'+' if plus else ''}{magnitude}"


def number(metric: str, value: float) -> str:
    """Return a metric's value, in percent where that is usual, else with three decimals."""
    return percent(value) if naming.metric_of(metric).percent else decimal(value)


def aligned(rows: Sequence[Sequence[str]], names: int = 1) -> list[str]:
    """Return rows of cells as lines for the terminal, columns of equal width; the first ``names`` to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = list(map(str.ljust, row[:names], widths)) + list(map(str.rjust, row[names:], widths[names:]))
        lines.append("  ".join(cells).rstrip())
    return lines


def entry(row: Row, metric: str) -> str:
    """Return mean ± standard deviation over the seeds, and how many seeds there are where some are missing."""
    mean = row.mean(metric)
    if math.isnan(mean):
        return MISSING
    gap = f" ({seeds(row)})" if len(row.seeds) < row.planned else ""
    return f"{number(metric, mean)} ± {number(metric, row.std(metric))}{gap}"


def seeds(row: Row) -> str:
    """Return the number of a row's seeds, and of the planned ones where some are missing."""
    return str(len(row.seeds)) if len(row.seeds) == row.planned else f"{len(row.seeds)} of {row.planned}"


def interval(ends: tuple[float, float], *, sign: bool = False) -> str:
    """Return the ends of an interval in points, in brackets; a dash for fewer than two seeds."""
    low, high = (points(end, sign=sign) for end in ends)
    return MISSING if MISSING in (low, high) else f"[{low}, {high}]"


def interval_kind(count: int) -> str:
    """Return what the interval of one of ``count`` differences that are tested together is called."""
    return "simultaneous 95 % interval" if count > 1 else "95 % interval"


def heading(metric: str) -> str:
    """Return the heading of a metric's column."""
    correction, name = naming.parts(metric)
    suffix = f", {CORRECTIONS[correction].heading}" if correction else ""
    return f"{METRICS[name].heading}{suffix}"


def method(row: Row) -> str:
    """Return a row's name, with its mark if the paper's abstract compares it."""
    return f"{row.method} {DAGGER}" if row.abstract else row.method


def published(row: Row) -> str:
    """Return a number that others published, with its metric; a dash where there is none."""
    if row.published is None:
        return MISSING
    metric = row.published["metric"]
    return f"{number(metric, row.published['value'])} ({heading(metric).lower()})"

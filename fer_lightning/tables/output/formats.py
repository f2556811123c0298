"""How a table's numbers and names are written."""

from __future__ import annotations

import math

from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.rows import Row
from fer_lightning.tables.analysis.statistics import LEVEL, Estimate

DAGGER = "†"
MISSING = "–"
EQUAL = "⁼"
"""Behind a value that is not shown to be worse than the best of its column."""


def percent(value: float, *, sign: bool = False) -> str:
    """A share in percent points with one decimal; a dash for NaN."""
    return MISSING if math.isnan(value) else _signed(f"{100 * value:.1f}", sign)


def decimal(value: float) -> str:
    """A number with three decimals; a dash for NaN."""
    return MISSING if math.isnan(value) else _signed(f"{value:.3f}", False)


def _signed(number: str, plus: bool) -> str:
    """A true minus sign, none before a zero, and a plus where asked for."""
    magnitude = number.lstrip("-")
    if float(number) == 0:
        return magnitude
    return f"−{magnitude}" if number != magnitude else f"{'+' if plus else ''}{magnitude}"


def number(metric: str, value: float) -> str:
    """A metric's value: in percent where that is usual, else with three decimals."""
    return percent(value) if naming.metric_of(metric).percent else decimal(value)


def entry(row: Row, metric: str) -> str:
    """Mean ± standard deviation over the seeds, and how many are there if some lack; a dash for what is not."""
    mean = row.mean(metric)
    if math.isnan(mean):
        return MISSING
    gap = f" ({seeds(row)})" if len(row.seeds) < row.planned else ""
    return f"{number(metric, mean)} ± {number(metric, row.std(metric))}{gap}"


def seeds(row: Row) -> str:
    """How many seeds a row has, and of how many where some lack."""
    return str(len(row.seeds)) if len(row.seeds) == row.planned else f"{len(row.seeds)} of {row.planned}"


def interval(estimate: Estimate, level: float = LEVEL, *, sign: bool = False) -> str:
    """The ends of an interval in points, in brackets; a dash for fewer than two seeds."""
    half = estimate.half_width(level)
    if math.isnan(half):
        return MISSING
    return f"[{percent(estimate.mean - half, sign=sign)}, {percent(estimate.mean + half, sign=sign)}]"


def heading(metric: str) -> str:
    """Return the heading of a column."""
    correction, name = naming.parts(metric)
    suffix = f", {CORRECTIONS[correction].heading}" if correction else ""
    return f"{METRICS[name].heading}{suffix}"


def method(row: Row) -> str:
    """A row's name with its mark."""
    return f"{row.method} {DAGGER}" if row.abstract else row.method


def published(row: Row) -> str:
    """A number of others, with its metric; a dash where there is none."""
    if row.published is None:
        return MISSING
    metric = row.published["metric"]
    return f"{number(metric, row.published['value'])} ({heading(metric).lower()})"

"""Cells of the printed table, before they become Markdown, LaTeX, HTML or plain text."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from fer_lightning.tables.analysis.comparisons import Comparison, compare, own, standing
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.output.formats import (
    MISSING,
    entry,
    heading,
    interval,
    interval_kind,
    method,
    points,
    published,
    seeds,
)

Mark = Literal["", "best", "equal", "missing"]


class Entry(NamedTuple):
    """A cell of the printed table.

    Attributes:
        text: without the mark.
        value: number by which the column is sorted; NaN where there is none.
        mark: "best" of its column, "equal" if not shown to be worse than the best, or "missing".
    """

    text: str
    value: float = math.nan
    mark: Mark = ""


class Column(NamedTuple):
    """A heading, and an entry for each row."""

    heading: str
    entries: list[Entry]


def columns(table: Table) -> list[Column]:
    """Return all columns of the printed table, the methods first."""
    base = table.baseline
    shown = [Column("Method", [Entry(method(row)) for row in table.rows])]
    shown += [Column(heading(metric), marked(table, metric)) for metric in table.metrics]
    if any(len(row.seeds) > 1 for row in table.rows):
        shown.append(Column("Macro recall, 95 % interval", [_interval(row) for row in table.rows]))
    if base and len(table.present) > 1:
        shown.append(_over_baseline(table, base))
    if any(row.published for row in table.rows):
        shown.append(Column("Published", [_published(row) for row in table.rows]))
    shown.append(Column("Seeds", [Entry(seeds(row), len(row.seeds)) for row in table.rows]))
    return shown


def lines(shown: list[Column]) -> list[tuple[Entry, ...]]:
    """Return the entries of columns row by row."""
    return list(zip(*(column.entries for column in shown), strict=True))


def marked(table: Table, metric: str) -> list[Entry]:
    """Return the entries of a metric's column with their marks."""
    column = standing(table, metric)

    def mark(row: Row) -> Mark:
        if math.isnan(row.mean(metric)):
            return "missing"
        if column is None:
            return ""
        return "best" if row is column.best else "equal" if row in column.equal else ""

    return [Entry(entry(row, metric), row.mean(metric), mark(row)) for row in table.rows]


def _interval(row: Row) -> Entry:
    text = interval(own(row).interval())
    return Entry(text, row.mean("macro_recall"), "missing" if text == MISSING else "")


def _over_baseline(table: Table, base: Row) -> Column:
    """Return the paired differences from the baseline in points, with the intervals of ``comparisons.compare``."""
    pairs = {row: compare(table, row, base) for row in table.present if row is not base}
    kind = interval_kind(max(pair.together for pair in pairs.values()))
    entries = [Entry("baseline", 0.0) if row is base else _over(pairs.get(row)) for row in table.rows]
    return Column(f"Over baseline [{kind}]", entries)


def _over(pair: Comparison | None) -> Entry:
    if pair is None:
        return Entry(MISSING, mark="missing")
    bounds = interval(pair.interval, sign=True)
    text = points(pair.gap.mean, sign=True) + ("" if bounds == MISSING else f" {bounds}")
    return Entry(text, pair.gap.mean)


def _published(row: Row) -> Entry:
    if row.published is None:
        return Entry(MISSING, mark="missing")
    return Entry(published(row), row.published["value"])

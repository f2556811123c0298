"""The printed table, cell by cell, before it is Markdown, LaTeX, HTML or plain text."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from fer_lightning.tables.analysis.comparisons import difference, own, standing
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.output.formats import (
    MISSING,
    entry,
    heading,
    interval,
    method,
    percent,
    published,
    seeds,
)

Mark = Literal["", "best", "equal", "missing"]


class Entry(NamedTuple):
    """A cell of the printed table.

    Attributes:
        text: what it says, without its mark.
        value: the number it is sorted by; NaN where there is none.
        mark: best of its column, not shown to be worse than that, or not there.
    """

    text: str
    value: float = math.nan
    mark: Mark = ""


class Column(NamedTuple):
    """A heading, and an entry a row."""

    heading: str
    entries: list[Entry]


def columns(table: Table) -> list[Column]:
    """All columns of the printed table, the methods first."""
    base = table.baseline
    found = [Column("Method", [Entry(method(row)) for row in table.rows])]
    found += [Column(heading(metric), marked(table, metric)) for metric in table.metrics]
    if any(len(row.seeds) > 1 for row in table.rows):
        found.append(Column("Macro recall, 95 % interval", [_interval(row) for row in table.rows]))
    if base and len(table.present) > 1:
        found.append(Column("Over baseline [95 %]", [_over(row, base) for row in table.rows]))
    if any(row.published for row in table.rows):
        found.append(Column("Published", [_published(row) for row in table.rows]))
    found.append(Column("Seeds", [Entry(seeds(row), len(row.seeds)) for row in table.rows]))
    return found


def marked(table: Table, metric: str) -> list[Entry]:
    """A metric's column."""
    stands = standing(table, metric)

    def mark(row: Row) -> Mark:
        if math.isnan(row.mean(metric)):
            return "missing"
        if stands is None:
            return ""
        return "best" if row is stands.best else "equal" if row in stands.equal else ""

    return [Entry(entry(row, metric), row.mean(metric), mark(row)) for row in table.rows]


def _interval(row: Row) -> Entry:
    text = interval(own(row))
    return Entry(text, row.mean("macro_recall"), "missing" if text == MISSING else "")


def _over(row: Row, base: Row) -> Entry:
    """Paired difference from the baseline in points, with its interval where there is one."""
    if row is base:
        return Entry("baseline", 0.0)
    if not row.seeds:
        return Entry(MISSING, mark="missing")
    gap = difference(row, base)
    bounds = interval(gap, sign=True)
    text = percent(gap.mean, sign=True) + ("" if bounds == MISSING else f" {bounds}")
    return Entry(text, gap.mean)


def _published(row: Row) -> Entry:
    if row.published is None:
        return Entry(MISSING, mark="missing")
    return Entry(published(row), row.published["value"])

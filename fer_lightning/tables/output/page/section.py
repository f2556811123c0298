"""Sections of the report and their figures; which rows have figures of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import FloatArray

OPEN = 8
"""Figures of a section that are seen at once; the others unfold."""

DRAWN = 40
"""Rows that have figures of their own; a sweep may have hundreds."""

Content = TypeVar("Content")


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file, unique on a page; the ids inside the figure begin with it.
        title: heading.
        caption: text beside the heading; may be empty.
        description: what the figure shows, in numbers, for readers who do not see it.
        svg: as ``figure_style.svg`` returns it.
    """

    name: str
    title: str
    caption: str
    description: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A part of the report; its sentences stand in ``templates/report.html.j2``.

    Attributes:
        pictures: figures; those beyond ``OPEN`` unfold.
        without: names of the rows (of the classes, for recall) that the figures lack.
        facts: further values that the template needs.
    """

    pictures: Sequence[Picture] = ()
    without: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Trained(NamedTuple):
    """Runs that were trained for a row, and for further rows that only correct them after training."""

    method: str
    row: Row
    runs: tuple[FinishedRun, ...]


def trained(table: Table) -> list[Trained]:
    """Return the rows to draw, at most ``DRAWN``; of rows that share runs, the one without a correction."""
    rows: dict[tuple[str, ...], Row] = {}
    shown = noted(table, DRAWN)
    for row in sorted(shown, key=lambda row: row.posthoc is not None):
        rows.setdefault(tuple(run.folder for run in row.runs), row)
    return [Trained(row.method, row, row.runs) for row in shown if row in rows.values()]


def noted(table: Table, count: int) -> list[Row]:
    """Return the most important rows with results, in the table's order.

    The row with the highest macro recall comes first, then baseline, compared rows and those of the paper's
    abstract, then the others by macro recall.
    """
    compared = [method for pair in table.contrasts for method in pair]

    def rank(row: Row) -> tuple[bool, bool, bool, float]:
        return row is not table.baseline, row.method not in compared, not row.abstract, -row.mean("macro_recall")

    best = max(table.present, key=lambda row: row.mean("macro_recall"), default=None)
    chosen = sorted(table.present, key=lambda row: (row is not best, *rank(row)))[:count]
    return [row for row in table.present if row in chosen]


def figures_by_row(
    table: Table,
    read: Callable[[Trained], Content],
    draw: Callable[[int, Trained, Content], Picture],
    **facts: Any,
) -> Section:
    """Return a section with a figure for each trained row whose runs hold what the figure shows.

    Args:
        table: whose rows to draw.
        read: returns what a row's figure shows; something false where its runs lack that.
        draw: draws the figure of a row, given its index among the figures.
        facts: see ``Section``.
    """
    contents = [(row, read(row)) for row in trained(table)]
    shown = [(row, content) for row, content in contents if content]
    return Section(
        [draw(k, row, content) for k, (row, content) in enumerate(shown)],
        [row.method for row, content in contents if not content],
        facts,
    )


def shorten(name: str, width: int = 44) -> str:
    """Return a name cut to a width."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def over_seeds(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, minimum and maximum over the first axis without its NaN; NaN where there is nothing else."""
    known = np.ma.masked_invalid(values)
    mean, low, high = (np.ma.filled(part, np.nan) for part in (known.mean(0), known.min(0), known.max(0)))
    return mean, low, high

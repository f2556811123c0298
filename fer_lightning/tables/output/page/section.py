"""What the page is made of: sections with sentences, pictures and markup; and which runs a picture is of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fer_lightning.core.html import text
from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import FloatArray

OPEN = 8
"""Rows whose pictures are seen at once; those of the others unfold."""

DRAWN = 40
"""Rows that have pictures of their own; a sweep may have hundreds."""

SPREAD = "lowest to highest seed"


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file, and in front of the ids in it; one on a page.
        title: what it is of.
        caption: what is to be said of it.
        seen: what it shows, in numbers, for who does not see it.
        svg: as ``drawing.svg`` gives it.
    """

    name: str
    title: str
    caption: str
    seen: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: of its anchor.
        title: heading.
        sentences: plain text above what it shows.
        pictures: figures; those beyond ``OPEN`` unfold.
        markup: what it shows beside them.
    """

    name: str
    title: str
    sentences: Sequence[str]
    pictures: Sequence[Picture] = ()
    markup: str = ""


class Trained(NamedTuple):
    """What was trained for a row, and maybe for others that only correct it afterwards."""

    method: str
    row: Row
    runs: tuple[FinishedRun, ...]


def trained(table: Table) -> list[Trained]:
    """The rows to draw, at most ``DRAWN``; of those that share their runs the one as trained, else the first."""
    rows: dict[tuple[str, ...], Row] = {}
    shown = noted(table, DRAWN)
    for row in sorted(shown, key=lambda row: row.posthoc is not None):
        rows.setdefault(tuple(run.folder for run in row.runs), row)
    return [Trained(row.method, row, row.runs) for row in shown if row in rows.values()]


def noted(table: Table, most: int) -> list[Row]:
    """So many rows with results, in the table's order: those that the table is about, then by macro recall."""
    named = [method for pair in table.contrasts for method in pair]

    def weight(row: Row) -> tuple[bool, bool, bool, float]:
        return row is not table.baseline, row.method not in named, not row.abstract, -row.mean("macro_recall")

    best = max(table.present, key=lambda row: row.mean("macro_recall"), default=None)
    chosen = sorted(table.present, key=lambda row: (row is not best, *weight(row)))[:most]
    return [row for row in table.present if row in chosen]


def slug(place: int, name: str) -> str:
    """A row's name as a part of a file's name."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return f"{place + 1:02d}_{plain[:24].strip('_')}"


def shorten(name: str, width: int = 44) -> str:
    """A name cut to a width."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def over_seeds(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, lowest and highest over the first axis, NaN left out; NaN where there is nothing else."""
    known = np.ma.masked_invalid(values)
    mean, low, high = (np.ma.filled(part, np.nan) for part in (known.mean(0), known.min(0), known.max(0)))
    return mean, low, high


def paragraphs(lines: Iterable[str], style: str = "soft") -> str:
    """Plain text as paragraphs."""
    return "".join(f'<p class="{style}">{text(line)}</p>' for line in lines)

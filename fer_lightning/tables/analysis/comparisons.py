"""Comparisons of rows: paired over seeds and test images, by one procedure that corrects for their number.

The comparisons that a table's file declares are tested together, and so are all others of the best row, or of the
baseline, with the other rows. A pair has one interval, one p-value and one verdict, wherever the table shows it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import SEEDS_TO_DECIDE, Estimate, estimate

DECLARED = "macro_recall"
"""Metric of the comparisons that a table's file declares."""


class Comparison(NamedTuple):
    """A pair of rows, one of several pairs that are tested together.

    Attributes:
        row: first row.
        other: row that it is compared with.
        gap: ``row`` minus ``other``.
        together: number of pairs that are tested together; all their intervals together hold with 95 %.
    """

    row: Row
    other: Row
    gap: Estimate
    together: int

    @property
    def interval(self) -> tuple[float, float]:
        """Return the ends of the gap's interval."""
        return self.gap.interval(self.together)

    @property
    def p(self) -> float:
        """Return the p-value, corrected for the number of comparisons."""
        return self.gap.p_value(self.together)

    @property
    def decided(self) -> bool:
        """Return whether the rows differ: the interval excludes 0, and there are enough seeds to say so."""
        return self.gap.is_decided(self.together)


def own(row: Row, metric: str = "macro_recall") -> Estimate:
    """Return a row's mean; its interval includes the draw of the test images where that is known."""
    if row.pictures is None:
        return estimate(row.values[metric])
    return estimate(
        row.values[metric], row.pictures.influences(metric, range(len(row.seeds))), row.pictures.labels
    )


def difference(row: Row, other: Row, metric: str = "macro_recall") -> Estimate:
    """Return ``row`` minus ``other``, paired over the seeds that both have and over the test images.

    Without a common seed it is the difference of the means, an estimate of 0 seeds.
    """
    shared = sorted(set(row.seeds) & set(other.seeds))
    if not shared:
        return Estimate(row.mean(metric) - other.mean(metric), 0, math.nan)
    indices = [[side.seeds.index(seed) for seed in shared] for side in (row, other)]
    values = row.values[metric][indices[0]] - other.values[metric][indices[1]]
    if row.pictures is None or other.pictures is None:
        return estimate(values)
    first, second = row.pictures.influences(metric, indices[0]), other.pictures.influences(metric, indices[1])
    return estimate(values, None if first is None or second is None else first - second, row.pictures.labels)


def compare(table: Table, row: Row, other: Row, metric: str = DECLARED) -> Comparison:
    """Compare two rows of a table: a declared pair, or the best row or the baseline with another one."""
    declared = [{pair.row, pair.other} for pair in contrasts(table)] if metric == DECLARED else []
    together = len(declared) if {row, other} in declared else len(_known(table, metric)) - 1
    return Comparison(row, other, difference(row, other, metric), together)


@lru_cache(maxsize=64)
def contrasts(table: Table) -> tuple[Comparison, ...]:
    """Return the comparisons that the table was made for, of rows that have a result."""
    rows = {row.method: row for row in table.present}
    pairs = [(rows[a], rows[b]) for a, b in table.contrasts if a in rows and b in rows]
    return tuple(Comparison(*pair, difference(*pair), len(pairs)) for pair in pairs)


def _known(table: Table, metric: str) -> list[Row]:
    """Return the rows that have a value in a column."""
    return [row for row in table.present if not np.isnan(row.mean(metric))]


def has_marks(table: Table) -> bool:
    """Return whether every row has enough seeds for its values to be marked."""
    return all(len(row.seeds) >= SEEDS_TO_DECIDE for row in table.rows)


class Standing(NamedTuple):
    """The row with the best mean of a column, and the rows that are not shown to be worse.

    The truly best row is among them with a probability of 95 %: if it is not, one of its comparisons wrongly
    decided against it, for which the correction allows 5 % (Hsu 1984, comparisons with the best). The declared
    comparisons are another family, which allows as much again.
    """

    best: Row
    equal: frozenset[Row]


@lru_cache(maxsize=64)  # called by every output format
def standing(table: Table, metric: str) -> Standing | None:
    """Return the standing of a column; None where there are too few seeds, or there is no second row."""
    sign = -1 if naming.metric_of(metric).lower_is_better else 1
    rows = _known(table, metric)
    if len(rows) < 2 or not has_marks(table):
        return None
    best = max(rows, key=lambda row: sign * row.mean(metric))
    pairs = [compare(table, best, row, metric) for row in rows if row is not best]
    worse = {pair.other for pair in pairs if pair.decided and sign * pair.gap.mean > 0}
    return Standing(best, frozenset(row for row in rows if row is not best and row not in worse))

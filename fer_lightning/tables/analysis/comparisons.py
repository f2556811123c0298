"""Comparisons of rows: paired over seeds and test images, corrected for their number."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import LEVEL, Estimate, estimate, holm, simultaneous

SEEDS_TO_DECIDE = 5
"""With fewer seeds there are intervals, but no marks, and no difference is called decided."""


class Comparison(NamedTuple):
    """A pair of rows, one of several pairs that are compared together.

    Attributes:
        row: first row.
        other: row that it is compared with.
        gap: ``row`` minus ``other``.
        p: p-value, corrected for the number of comparisons.
        level: level of the gap's interval; all intervals together hold with 95 %.
    """

    row: Row
    other: Row
    gap: Estimate
    p: float
    level: float

    @property
    def decided(self) -> bool:
        """Return whether the rows differ, which takes enough seeds to say."""
        return self.gap.seeds >= SEEDS_TO_DECIDE and self.p < 1 - LEVEL


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


def together(pairs: list[tuple[Row, Row]], metric: str = "macro_recall") -> list[Comparison]:
    """Compare pairs of rows as one family: p-values after Holm, intervals after Bonferroni."""
    gaps = [difference(row, other, metric) for row, other in pairs]
    corrected = holm(np.nan_to_num([gap.p for gap in gaps], nan=1.0))
    level = simultaneous(len(pairs))
    return [Comparison(*pair, gap, p, level) for pair, gap, p in zip(pairs, gaps, corrected, strict=True)]


def contrasts(table: Table) -> list[Comparison]:
    """Return the comparisons that the table was made for, of rows that have a result."""
    rows = {row.method: row for row in table.present}
    return together([(rows[a], rows[b]) for a, b in table.contrasts if a in rows and b in rows])


def has_marks(table: Table) -> bool:
    """Return whether every row has enough seeds for its values to be marked."""
    return all(len(row.seeds) >= SEEDS_TO_DECIDE for row in table.rows)


class Standing(NamedTuple):
    """The row with the best mean of a column, and the rows that are not shown to be worse.

    The truly best row is among them with a probability of 95 %: if it is not, one of the comparisons wrongly
    decided against it, for which the correction allows 5 % (Hsu 1984, comparisons with the best).
    """

    best: Row
    equal: frozenset[Row]


@lru_cache(maxsize=64)  # called by every output format
def standing(table: Table, metric: str) -> Standing | None:
    """Return the standing of a column; None where there are too few seeds, or there is no second row."""
    sign = -1 if naming.metric_of(metric).lower_is_better else 1
    rows = [row for row in table.present if not np.isnan(row.mean(metric))]
    if len(rows) < 2 or not has_marks(table):
        return None
    best = max(rows, key=lambda row: sign * row.mean(metric))
    comparisons = together([(best, row) for row in rows if row is not best], metric)
    return Standing(best, frozenset(pair.other for pair in comparisons if not pair.decided))

"""The search before a table: each row tries the same number of points on the minival, with seeds of the search.

All points come from one scrambled Sobol sequence. The first key of ``all`` takes its first dimension, a row's own
keys the next ones, and further keys of ``all`` the last ones: all rows try the same learning rates, and a row, a
loss or a key that is added moves no other. No row has more trials than another, and no trial sees the test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import qmc

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.results import TRIALS
from fer_lightning.sweeps.planner import Planner
from fer_lightning.tables.plan import RowPlan, RowRun, TablePlan, label
from fer_lightning.tables.search_space import ALL, Dimension, SearchPlan, Value

DIMENSIONS = 8
"""Dimensions of the sequence, always drawn together: scrambling makes each depend on how many there are."""

_SCRAMBLING_SEED = 0
UNTUNED = "Untuned: the search in the table's file was left out. With it the rows may be ordered differently."


class Points(NamedTuple):
    """What a row tries.

    Attributes:
        dimensions: values of each searched key.
        values: a value for each key, by point.
    """

    dimensions: dict[str, Dimension]
    values: list[list[Value]]

    def words(self, point: int) -> list[str]:
        """Return the overrides of a point."""
        return [_override(key, value) for key, value in zip(self.dimensions, self.values[point], strict=True)]


def untuned(plan: TablePlan) -> TablePlan:
    """Return the table without its search, with a note that says so."""
    return plan.model_copy(update={"tune": None, "notes": [*plan.notes, UNTUNED]}) if plan.tune else plan


def points(plan: TablePlan, search: SearchPlan, row: RowPlan) -> Points:
    """Return what a row tries.

    Raises:
        UserError: the row has too many keys, or one of them twice.
    """
    where = f"table {plan.name}: tune: {row.method}"
    first, *further = search.space[ALL].items()
    own = [*(search.space.get(row.loss, {}) if row.tune is None else row.tune).items()]
    dimensions = [first, *own, *further]
    if len(dimensions) > DIMENSIONS:
        raise UserError(f"{where}: at most {DIMENSIONS} keys are searched together, got {len(dimensions)}")
    if repeated := {key for key, _ in own} & search.space[ALL].keys():
        raise UserError(f"{where}: {min(repeated)} is searched by all rows, so leave it out of the row's own keys")
    columns = [*range(1 + len(own)), *range(DIMENSIONS - 1, DIMENSIONS - 1 - len(further), -1)]
    sequence = qmc.Sobol(DIMENSIONS, scramble=True, seed=_SCRAMBLING_SEED).random(search.trials)
    values = [
        [dimension.value(point[column]) for (_, dimension), column in zip(dimensions, columns, strict=True)]
        for point in sequence
    ]
    return Points(dict(dimensions), values)


def _override(key: str, value: Value) -> str:
    return f"{key}={str(value).lower() if isinstance(value, bool) else value}"


def check(plan: TablePlan, overrides: Sequence[str], planner: Planner) -> None:
    """Check that all rows have the same search, and compose a trial of each.

    Raises:
        UserError: see ``points``; or a seed of the search is one of the table's, there is no such row or key, or a
            key that is searched has a value already.
    """
    if plan.tune is None:
        return
    where = f"table {plan.name}: tune"
    if shared := set(plan.tune.seeds) & set(plan.seeds):
        raise UserError(f"{where}.seeds: {min(shared)} is one of the seeds that are reported")
    losses = {row.loss for row in plan.rows} | {ALL}
    if strange := [name for name in plan.tune.space if name not in losses]:
        raise UserError(f"{where}.space: no row has loss={strange[0]}; there are {', '.join(sorted(losses))}")
    for row in plan.rows:
        tried = points(plan, plan.tune, row)
        for word in [*row.overrides, *overrides]:
            if (key := word.lstrip("+").partition("=")[0]) in tried.dimensions:
                raise UserError(f"{where}: {row.method}: {key} is searched; leave {word} out, or give --untuned")
        planner.compose([*plan.overrides, *row.overrides, *tried.words(0), *overrides])


def trials(
    plan: TablePlan, search: SearchPlan, overrides: Sequence[str], planner: Planner, base: Path
) -> list[RowRun]:
    """Return a run for each point that a row tries and each seed of the search; none sees the test set."""
    planned = []
    for seed in search.seeds:
        for row in plan.rows:
            tried = points(plan, search, row)
            for point in range(search.trials):
                option = tried.words(point)
                words = (*plan.overrides, *row.overrides, *option, *overrides, f"seed={seed}")
                run = planner.planned(words, base / TRIALS, label(row, seed, option), trial=True)
                planned.append(RowRun(row, seed, run, point))
    return planned


def chosen(plan: TablePlan, search: SearchPlan, tried: Sequence[RowRun]) -> tuple[TablePlan, list[dict[str, Any]]]:
    """Choose each row's best point by the minival's macro recall, the first of equal ones.

    Returns:
        The table with the values of these points; and for each row ``method``, ``keys``, ``points`` (values of
        these keys), ``scores`` (by point, one per seed), the ``chosen`` point's number, the keys whose chosen
        number is at the ``edge`` of those that were tried, and how far the ``second`` best point is below, None
        where all points are the same.

    Raises:
        UserError: a trial of a row failed.
    """
    rows, searched = [], []
    for row in plan.rows:
        dimensions, values = space = points(plan, search, row)
        scores = [_scores([run for run in tried if run.row is row and run.point == k]) for k in range(len(values))]
        means = [sum(by_seed) / len(by_seed) for by_seed in scores]
        best = means.index(max(means))
        others = [mean for mean, point in zip(means, values, strict=True) if point != values[best]]
        rows.append(row.model_copy(update={"overrides": [*row.overrides, *space.words(best)]}))
        searched.append(
            {
                "method": row.method,
                "keys": [*dimensions],
                "points": values,
                "scores": scores,
                "chosen": best,
                "edge": _at_the_edge(space, best),
                "second": means[best] - max(others) if others else None,
            }
        )
    return plan.model_copy(update={"rows": rows}), searched


def _at_the_edge(space: Points, chosen: int) -> list[str]:
    """Return the keys whose chosen number is the lowest or the highest that was tried; choices have no edge."""
    columns = zip(space.dimensions.items(), zip(*space.values, strict=True), strict=True)
    return [
        key
        for (key, dimension), values in columns
        if dimension.numeric and values[chosen] in (min(values), max(values))
    ]


def _scores(runs: Sequence[RowRun]) -> list[float]:
    """Return the minival's macro recall of each trial."""
    results = [(planned.run, planned.run.result()) for planned in runs]
    failed = [run for run, result in results if result is None]
    if failed:
        raise UserError(f"a trial failed, so nothing can be chosen: {failed[0].label}; see {failed[0].directory}")
    return [result.minival_macro_recall for _, result in results if result is not None]

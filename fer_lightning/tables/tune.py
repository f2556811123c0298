"""The search before a table: each row tries the same number of values on the minival, with seeds of the search.

One number is tuned per row: lambda where its loss has one, else what the table's file names for the others, the
learning rate. No row has more trials than another, and no trial sees the test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.results import TRIALS
from fer_lightning.sweeps.planner import Planner
from fer_lightning.tables.plan import RowPlan, RowRun, SearchPlan, TablePlan, label

OTHERS = "others"
UNTUNED = "Untuned: the search in the table's file was left out. With it the rows may be ordered differently."


def untuned(plan: TablePlan) -> TablePlan:
    """Return the table without its search, with a note that says so."""
    return plan.model_copy(update={"tune": None, "notes": [*plan.notes, UNTUNED]}) if plan.tune else plan


def options(plan: TablePlan, row: RowPlan) -> list[str]:
    """Return the overrides that a row tries: values of one number, evenly spaced by their logarithm.

    Without a search there are none.

    Raises:
        UserError: no entry applies to the row, it names several numbers or more values than others have, or a
            range has an end that is not positive.
    """
    if plan.tune is None:
        return []
    where = f"table {plan.name}: tune: {row.method}"
    space = row.tune or plan.tune.space.get(row.loss) or plan.tune.space.get(OTHERS)
    if not space:
        raise UserError(
            f"{where}: say under space what {row.loss} or {OTHERS} try, e.g. optimizer.lr: [1e-4, 1e-2]"
        )
    if len(space) > 1:
        raise UserError(f"{where}: one number a row, so that all have the same search; got {', '.join(space)}")
    ((key, values),) = space.items()
    return [f"{key}={value:.3g}" for value in _values(values, plan.tune, f"{where}: {key}")]


def _values(values: Sequence[float], search: SearchPlan, where: str) -> list[float]:
    if len(values) == search.trials:
        return sorted(values)
    if len(values) != 2:
        raise UserError(
            f"{where}: every row tries {search.trials} values; give so many or the two ends of a range, "
            f"got {len(values)}"
        )
    if min(values) <= 0 or values[0] == values[1]:
        raise UserError(f"{where}: a range needs two positive ends, got {values[0]:g} and {values[1]:g}")
    return list(np.geomspace(min(values), max(values), search.trials))


def check(plan: TablePlan, overrides: Sequence[str], planner: Planner) -> None:
    """Check that all rows have the same number of trials, and compose each trial once.

    Raises:
        UserError: see ``options``; or a seed of the search is one of the table's, or an override does not fit.
    """
    if plan.tune is None:
        return
    if shared := set(plan.tune.seeds) & set(plan.seeds):
        raise UserError(f"table {plan.name}: tune.seeds: {min(shared)} is one of the seeds that are reported")
    losses = {row.loss for row in plan.rows} | {OTHERS}
    if strange := [name for name in plan.tune.space if name not in losses]:
        raise UserError(
            f"table {plan.name}: tune.space: no row has loss={strange[0]}; there are {', '.join(sorted(losses))}"
        )
    for row in plan.rows:
        for option in options(plan, row):
            planner.compose([*plan.overrides, *row.overrides, option, *overrides])


def trials(plan: TablePlan, overrides: Sequence[str], planner: Planner, base: Path) -> list[RowRun]:
    """Return a run for each value that a row tries and each seed of the search; none sees the test set."""
    planned = []
    for seed in plan.tune.seeds if plan.tune else ():
        for row in plan.rows:
            for option in options(plan, row):
                words = (*plan.overrides, *row.overrides, option, *overrides, f"seed={seed}")
                run = planner.planned(words, base / TRIALS, label(row, seed, option), trial=True)
                planned.append(RowRun(row, seed, run, option))
    return planned


def chosen(plan: TablePlan, tried: Sequence[RowRun]) -> tuple[TablePlan, list[dict[str, Any]]]:
    """Choose each row's best value by the minival's macro recall.

    Returns:
        The table with these values; and by row ``method``, ``key``, ``values``, ``scores`` (by value, one per
        seed), ``chosen`` and whether that is at the ``edge`` of the values.

    Raises:
        UserError: a trial of a row failed.
    """
    rows, searched = [], []
    for row in plan.rows:
        words = options(plan, row)
        scores = [_scores([run for run in tried if run.row is row and run.option == word]) for word in words]
        means = [sum(by_seed) / len(by_seed) for by_seed in scores]
        best = means.index(max(means))
        key = words[0].partition("=")[0]
        values = [float(word.partition("=")[2]) for word in words]
        rows.append(row.model_copy(update={"overrides": [*row.overrides, words[best]]}))
        searched.append(
            {
                "method": row.method,
                "key": key,
                "values": values,
                "scores": scores,
                "chosen": values[best],
                "edge": best in (0, len(words) - 1),
            }
        )
    return plan.model_copy(update={"rows": rows}), searched


def _scores(runs: Sequence[RowRun]) -> list[float]:
    """Return the minival's macro recall of each trial."""
    results = [(planned.run, planned.run.result()) for planned in runs]
    failed = [run for run, result in results if result is None]
    if failed:
        raise UserError(f"a trial failed, so nothing can be chosen: {failed[0].label}; see {failed[0].directory}")
    return [result.minival_macro_recall for _, result in results if result is not None]

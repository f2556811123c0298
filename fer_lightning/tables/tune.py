"""The search before a table: each row tries as many values on the minival, with seeds of their own.

One number a row: lambda where its loss has one, else what the table says of the others: the learning rate. No
row has more chances than another, and no trial looks at the test set.
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
    """The table without its search, and with a note that says so."""
    return plan.model_copy(update={"tune": None, "notes": [*plan.notes, UNTUNED]}) if plan.tune else plan


def options(plan: TablePlan, row: RowPlan) -> list[str]:
    """The overrides that a row tries: values of one number, evenly spaced by their logarithm.

    There are none without a search.

    Raises:
        UserError: nothing says what the row tries, it would try several numbers or more values than others, or a
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
    ((key, said),) = space.items()
    return [f"{key}={value:.3g}" for value in _values(said, plan.tune, f"{where}: {key}")]


def _values(said: Sequence[float], search: SearchPlan, where: str) -> list[float]:
    if len(said) == search.trials:
        return sorted(said)
    if len(said) != 2:
        raise UserError(
            f"{where}: every row tries {search.trials} values; give so many or the two ends of a range, "
            f"got {len(said)}"
        )
    if min(said) <= 0 or said[0] == said[1]:
        raise UserError(f"{where}: a range needs two positive ends, got {said[0]:g} and {said[1]:g}")
    return list(np.geomspace(min(said), max(said), search.trials))


def check(plan: TablePlan, overrides: Sequence[str], planner: Planner) -> None:
    """Hold all rows to the same number of trials, and compose each trial once.

    Raises:
        UserError: see ``options``; or a seed is one of the table's own, or an override does not fit.
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
    """A run for each value that a row tries and each seed to try with; none of them sees the test set."""
    planned = []
    for seed in plan.tune.seeds if plan.tune else ():
        for row in plan.rows:
            for option in options(plan, row):
                words = (*plan.overrides, *row.overrides, option, *overrides, f"seed={seed}")
                run = planner.planned(words, base / TRIALS, label(row, seed, option), trial=True)
                planned.append(RowRun(row, seed, run, option))
    return planned


def chosen(plan: TablePlan, tried: Sequence[RowRun]) -> tuple[TablePlan, list[dict[str, Any]]]:
    """The table with each row's best value by the minival's macro recall, and what was tried for it.

    Returns:
        The table; and by row ``method``, ``key``, ``values``, ``scores`` (of each value, one a seed), ``chosen``
        and whether that is at the ``edge`` of the values.

    Raises:
        UserError: a trial of a row failed.
    """
    rows, found = [], []
    for row in plan.rows:
        words = options(plan, row)
        scores = [_scores([run for run in tried if run.row is row and run.option == word]) for word in words]
        means = [sum(one) / len(one) for one in scores]
        best = means.index(max(means))
        key = words[0].partition("=")[0]
        values = [float(word.partition("=")[2]) for word in words]
        rows.append(row.model_copy(update={"overrides": [*row.overrides, words[best]]}))
        found.append(
            {
                "method": row.method,
                "key": key,
                "values": values,
                "scores": scores,
                "chosen": values[best],
                "edge": best in (0, len(words) - 1),
            }
        )
    return plan.model_copy(update={"rows": rows}), found


def _scores(runs: Sequence[RowRun]) -> list[float]:
    """The minival's macro recall of each trial."""
    results = [(planned.run, planned.run.result()) for planned in runs]
    failed = [run for run, result in results if result is None]
    if failed:
        raise UserError(f"a trial failed, so nothing can be chosen: {failed[0].label}; see {failed[0].directory}")
    return [result.minival_macro_recall for _, result in results if result is not None]

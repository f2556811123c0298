"""The search before a table: each row tries as many values on the minival, with seeds of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import UserError
from fer_lightning.sweep.planner import Planner
from fer_lightning.table.plan import PlannedCell, RowPlan, TablePlan, label

FOLDER = "trials"


def options(plan: TablePlan, row: RowPlan) -> list[str]:
    """The overrides that a row tries: its own, or the table's."""
    return row.tune or plan.tune


def refuse_unequal_budgets(plan: TablePlan) -> None:
    """Hold all rows to the same number of trials.

    Raises:
        UserError: they differ, there are no seeds to try with, or a seed is one of the table's own.
    """
    budgets = {len(options(plan, row)) for row in plan.rows}
    if len(budgets) > 1:
        told = ", ".join(f"{row.method} {len(options(plan, row))}" for row in plan.rows)
        raise UserError(f"table {plan.name}: tune: every row needs as many values as the others, got {told}")
    if budgets != {0} and not plan.tune_seeds:
        raise UserError(f"table {plan.name}: tune_seeds: say which seeds the values are tried with")
    if shared := set(plan.tune_seeds) & set(plan.seeds):
        raise UserError(f"table {plan.name}: tune_seeds: {min(shared)} is one of the seeds that are reported")


def trials(plan: TablePlan, overrides: Sequence[str], planner: Planner, base: Path) -> list[PlannedCell]:
    """A cell for each value that a row tries and each seed to try with; none of them sees the test set."""
    planned = []
    for seed in plan.tune_seeds:
        for row in plan.rows:
            for option in options(plan, row):
                words = (*plan.overrides, *row.overrides, option, *overrides, f"seed={seed}")
                cell = planner.planned(words, base / FOLDER, label(row, seed, option), trial=True)
                planned.append(PlannedCell(row, seed, cell, option))
    return planned


def chosen(plan: TablePlan, tried: Sequence[PlannedCell]) -> TablePlan:
    """The table with each row's best value by the minival's macro recall, and a note of what was chosen.

    Raises:
        UserError: a trial of a row failed.
    """
    rows, told = [], []
    for row in plan.rows:
        values = options(plan, row)
        means = [
            _mean_score([cell for cell in tried if cell.row is row and cell.option == value]) for value in values
        ]
        best = values[means.index(max(means))]
        edge = " (at the edge of its values)" if best in (values[0], values[-1]) else ""
        rows.append(row.model_copy(update={"overrides": [*row.overrides, best]}))
        told.append(f"{row.method}: {best}{edge}")
    count = len(options(plan, plan.rows[0]))
    note = (
        f"Search: {count} values a row with seed {', '.join(map(str, plan.tune_seeds))}, chosen by the minival's "
        f"macro recall; no trial saw the test set. Chosen: {'; '.join(told)}."
    )
    return plan.model_copy(update={"rows": rows, "notes": [*plan.notes, note]})


def _mean_score(cells: Sequence[PlannedCell]) -> float:
    results = [(planned.cell, planned.cell.result()) for planned in cells]
    failed = [cell for cell, result in results if result is None]
    if failed:
        raise UserError(f"a trial failed, so nothing can be chosen: {failed[0].label}; see {failed[0].directory}")
    scores = [float(result["minival_macro_recall"]) for _, result in results if result is not None]
    return sum(scores) / len(scores)

"""What a table consists of: rows that are one experiment, rows of one cell, and the search before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.cache import content_hash
from fer_lightning.config import compose
from fer_lightning.contracts import ClassStats
from fer_lightning.errors import UserError
from fer_lightning.objective import Objective, objective
from fer_lightning.results import TRIAL
from fer_lightning.sweep.cells import Planned
from fer_lightning.table import plan as planning
from fer_lightning.table import tuning
from fer_lightning.table.plan import PlannedCell, TablePlan

STATS = ClassStats(("a", "b"), (30, 10))
ROWS = [
    {"method": "softmax", "overrides": ["loss=softmax"]},
    {"method": "rival", "overrides": ["loss=softmax"], "posthoc": "logit_adjustment"},
    {"method": "focal", "overrides": ["loss=focal"]},
]


class Knowing:
    """Knows cells by their words, without a child process."""

    def planned(self, overrides: Sequence[str], base: Path, label: str, *, trial: bool = False) -> Planned:
        return Planned(tuple(overrides), base / content_hash(sorted(overrides))[:8], label, trial)

    def setting(self, overrides: Sequence[str]) -> str:
        return content_hash(sorted(word for word in overrides if not word.startswith("seed=")))

    def objective(self, overrides: Sequence[str]) -> Objective:
        return objective(compose(list(overrides)), {}, STATS)


def table(**said: Any) -> TablePlan:
    return TablePlan.model_validate({"title": "T", "rows": ROWS, "seeds": [0, 1], "metrics": ["accuracy"], **said})


def twins(*rows: dict[str, Any]) -> list[tuple[str, str, float]]:
    found = planning.twins(table(rows=list(rows)), ["stage.epochs=1"], Knowing())  # type: ignore[arg-type]
    return [(twin.method, twin.first.method, twin.factor) for twin in found]


def row(method: str, *overrides: str) -> dict[str, Any]:
    return {"method": method, "overrides": list(overrides)}


def test_rows_that_are_one_experiment_are_found_and_share_their_cells(tmp_path: Path) -> None:
    rows = [row("a", "loss=balanced_softmax"), row("b", "loss=focal"), row("c", "loss=logit_adjusted")]
    assert twins(*rows) == [("c", "a", 1.0)]
    plan, planner = table(rows=rows), Knowing()
    same = planning.twins(plan, [], planner)  # type: ignore[arg-type]
    cells = planning.cells(plan, [], planner, tmp_path, same)  # type: ignore[arg-type]
    folders = {(cell.row.method, cell.seed): cell.cell.directory for cell in cells}
    assert folders["c", 0] == folders["a", 0] != folders["a", 1]
    assert len(set(folders.values())) == 4
    planning.note_down(plan, cells, same, planner, tmp_path)  # type: ignore[arg-type]
    told = json.loads((tmp_path / "table.json").read_text())
    assert told["rows"][2]["settings"] == told["rows"][0]["settings"]
    assert "c is the same experiment as a; trained once, shown twice." in told["notes"]


def test_rows_up_to_a_constant_are_told_and_both_trained(tmp_path: Path) -> None:
    as_is = "class_weights.normalise=as_is"
    rows = [row("a", "class_weights=inverse", as_is), row("b", "class_weights=min_over_count", as_is)]
    ((method, first, factor),) = twins(*rows)
    assert (method, first) == ("b", "a")
    assert factor == pytest.approx(0.5, rel=1e-4)  # min/N is 1/3 and 1, N/(C N_k) is 2/3 and 2
    plan, planner = table(rows=rows), Knowing()
    same = planning.twins(plan, [], planner)  # type: ignore[arg-type]
    assert "up to a constant, 0.5 times the loss" in str(same[0])
    assert len({cell.cell.directory for cell in planning.cells(plan, [], planner, tmp_path, same)}) == 4  # type: ignore[arg-type]


def test_a_row_after_training_shares_its_cells_and_is_no_twin(tmp_path: Path) -> None:
    assert twins(*ROWS) == []
    cells = planning.cells(table(), [], Knowing(), tmp_path)  # type: ignore[arg-type]
    folders = {(cell.row.method, cell.seed): cell.cell.directory for cell in cells}
    assert folders["rival", 1] == folders["softmax", 1] != folders["focal", 1]


SEARCHED = {
    "rows": [*ROWS[:2], {**ROWS[2], "tune": ["loss.gamma=1.0", "loss.gamma=2.0", "loss.gamma=4.0"]}],
    "tune": ["optimizer.lr=0.1", "optimizer.lr=0.2", "optimizer.lr=0.3"],
    "tune_seeds": [7, 8],
}


def tried(plan: TablePlan, folder: Path, scores: dict[str, tuple[float, float]]) -> list[PlannedCell]:
    """The trials of a plan, complete, with a score by option and seed."""
    cells = tuning.trials(plan, [], Knowing(), folder)  # type: ignore[arg-type]
    for cell in cells:
        assert cell.option is not None
        cell.cell.directory.mkdir(parents=True, exist_ok=True)
        score = scores[cell.option][cell.seed - 7]
        (cell.cell.directory / TRIAL).write_text(json.dumps({"minival_macro_recall": score}))
    return cells


SCORES = {
    "optimizer.lr=0.1": (0.5, 0.5),
    "optimizer.lr=0.2": (0.9, 0.3),  # the best of one seed, and the best on average
    "optimizer.lr=0.3": (0.4, 0.7),
    "loss.gamma=1.0": (0.2, 0.2),
    "loss.gamma=2.0": (0.3, 0.2),
    "loss.gamma=4.0": (0.3, 0.3),
}


def test_each_row_keeps_its_best_value_by_the_mean_over_the_seeds(tmp_path: Path) -> None:
    plan = table(**SEARCHED)
    after = tuning.chosen(plan, tried(plan, tmp_path, SCORES))
    assert [row.overrides[-1] for row in after.rows] == ["optimizer.lr=0.2", "optimizer.lr=0.2", "loss.gamma=4.0"]
    assert "3 values a row with seed 7, 8" in after.notes[-1]
    assert "focal: loss.gamma=4.0 (at the edge of its values)" in after.notes[-1]
    assert "softmax: optimizer.lr=0.2;" in after.notes[-1]


def test_trials_lie_apart_and_have_seeds_of_their_own(tmp_path: Path) -> None:
    cells = tuning.trials(table(**SEARCHED), [], Knowing(), tmp_path)  # type: ignore[arg-type]
    assert {cell.seed for cell in cells} == {7, 8}
    assert {cell.cell.directory.parent for cell in cells} == {tmp_path / "trials"}
    assert len({cell.cell.directory for cell in cells}) == 12  # the rival's are softmax's


def test_a_trial_that_failed_stops_the_table(tmp_path: Path) -> None:
    plan = table(**SEARCHED)
    cells = tried(plan, tmp_path, SCORES)
    (cells[-1].cell.directory / TRIAL).unlink()
    with pytest.raises(UserError, match=r"a trial failed.*focal, loss.gamma=4.0, seed 8"):
        tuning.chosen(plan, cells)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rows": [*ROWS[:2], {**ROWS[2], "tune": ["loss.gamma=1.0"]}]}, r"softmax 3, rival 3, focal 1"),
        ({"tune_seeds": []}, r"tune_seeds: say which"),
        ({"tune_seeds": [1]}, r"tune_seeds: 1 is one of the seeds"),
    ],
)
def test_an_unfair_search_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tuning.refuse_unequal_budgets(table(**{**SEARCHED, **said}))


def test_a_table_without_search_is_fine() -> None:
    tuning.refuse_unequal_budgets(table())


def test_a_row_may_be_run_with_some_of_the_seeds(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[2], "seeds": [1]}]
    plan, planner = table(rows=rows), Knowing()
    planned = planning.cells(plan, [], planner, tmp_path)  # type: ignore[arg-type]
    assert [(cell.row.method, cell.seed) for cell in planned] == [("softmax", 0), ("softmax", 1), ("focal", 1)]
    planning.note_down(plan, planned, [], planner, tmp_path)  # type: ignore[arg-type]
    told = json.loads((tmp_path / "table.json").read_text())
    assert [row["seeds"] for row in told["rows"]] == [[0, 1], [1]]


def test_a_rows_seeds_are_some_of_the_tables(tmp_path: Path) -> None:
    text = "title: T\nmetrics: [accuracy]\nseeds: [0, 1]\nrows:\n- {method: a, overrides: [], seeds: [2]}\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a: its seeds must be some of the table's \[0, 1\]"):
        planning.load(str(tmp_path / "mine.yaml"))

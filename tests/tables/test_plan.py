"""What a table consists of: rows that are one experiment, and rows of one run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.config.compose import Composer
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.same_experiment import Objective, objective
from fer_lightning.tables import plan as planning
from fer_lightning.tables.plan import TablePlan

COMPOSE = Composer()
STATS = ClassStats(("a", "b"), (30, 10))
ROWS = [
    {"method": "softmax", "overrides": ["loss=softmax"]},
    {"method": "rival", "overrides": ["loss=softmax"], "posthoc": "logit_adjustment"},
    {"method": "focal", "overrides": ["loss=focal"]},
]


class Knowing:
    """Knows runs by their words, without a child process."""

    def planned(self, overrides: Sequence[str], base: Path, label: str, *, trial: bool = False) -> PlannedRun:
        return PlannedRun(tuple(overrides), base / content_hash(sorted(overrides))[:8], label, trial)

    def setting(self, overrides: Sequence[str]) -> str:
        return content_hash(sorted(word for word in overrides if not word.startswith("seed=")))

    def objective(self, overrides: Sequence[str]) -> Objective:
        return objective(COMPOSE(list(overrides)), {}, STATS)


def table(**said: Any) -> TablePlan:
    return TablePlan.model_validate({"title": "T", "rows": ROWS, "seeds": [0, 1], "metrics": ["accuracy"], **said})


def twins(*rows: dict[str, Any]) -> list[tuple[str, str, float]]:
    found = planning.twins(table(rows=list(rows)), ["stage.epochs=1"], Knowing())  # type: ignore[arg-type]
    return [(twin.method, twin.first.method, twin.factor) for twin in found]


def row(method: str, *overrides: str) -> dict[str, Any]:
    return {"method": method, "overrides": list(overrides)}


def test_rows_that_are_one_experiment_are_found_and_share_their_runs(tmp_path: Path) -> None:
    rows = [row("a", "loss=balanced_softmax"), row("b", "loss=focal"), row("c", "loss=logit_adjusted")]
    assert twins(*rows) == [("c", "a", 1.0)]
    plan, planner = table(rows=rows), Knowing()
    same = planning.twins(plan, [], planner)  # type: ignore[arg-type]
    runs = planning.runs(plan, [], planner, tmp_path, same)  # type: ignore[arg-type]
    folders = {(run.row.method, run.seed): run.run.directory for run in runs}
    assert folders["c", 0] == folders["a", 0] != folders["a", 1]
    assert len(set(folders.values())) == 4
    planning.note_down(plan, runs, same, planner, tmp_path)  # type: ignore[arg-type]
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
    assert len({run.run.directory for run in planning.runs(plan, [], planner, tmp_path, same)}) == 4  # type: ignore[arg-type]


def test_a_row_after_training_shares_its_runs_and_is_no_twin(tmp_path: Path) -> None:
    assert twins(*ROWS) == []
    runs = planning.runs(table(), [], Knowing(), tmp_path)  # type: ignore[arg-type]
    folders = {(run.row.method, run.seed): run.run.directory for run in runs}
    assert folders["rival", 1] == folders["softmax", 1] != folders["focal", 1]


def test_a_row_may_be_run_with_some_of_the_seeds(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[2], "seeds": [1]}]
    plan, planner = table(rows=rows), Knowing()
    planned = planning.runs(plan, [], planner, tmp_path)  # type: ignore[arg-type]
    assert [(run.row.method, run.seed) for run in planned] == [("softmax", 0), ("softmax", 1), ("focal", 1)]
    planning.note_down(plan, planned, [], planner, tmp_path)  # type: ignore[arg-type]
    told = json.loads((tmp_path / "table.json").read_text())
    assert [row["seeds"] for row in told["rows"]] == [[0, 1], [1]]


def test_a_rows_seeds_are_some_of_the_tables(tmp_path: Path) -> None:
    text = "title: T\nmetrics: [accuracy]\nseeds: [0, 1]\nrows:\n- {method: a, overrides: [], seeds: [2]}\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a: its seeds must be some of the table's \[0, 1\]"):
        planning.load(str(tmp_path / "mine.yaml"))


PUBLISHED = {"value": 0.637, "metric": "macro_recall", "source": "Author et al. 2020, p. 7, Table 3"}


def written(folder: Path, **said: Any) -> str:
    path = folder / "own.yaml"
    path.write_text(json.dumps({"title": "T", "rows": ROWS, "seeds": [0], "metrics": ["accuracy"], **said}))
    return str(path)


def test_a_published_number_is_kept_with_its_row(tmp_path: Path) -> None:
    plan = planning.load(written(tmp_path, rows=[{**ROWS[0], "published": PUBLISHED}]))
    planning.note_down(plan, [], [], Knowing(), tmp_path)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["published"] == PUBLISHED


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"source": "Author et al. 2020"}, r"rows.0.published.source: .*does not name page and table"),
        ({"source": "Author et al. 2020, p. 7"}, "does not name page and table"),
        ({"source": "Author et al. 2020, Table 3"}, "does not name page and table"),
        ({"metric": "uar"}, r"rows.0.published.metric"),
    ],
)
def test_a_published_number_without_page_and_table_is_refused(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        planning.load(written(tmp_path, rows=[{**ROWS[0], "published": {**PUBLISHED, **said}}]))


def test_columns_are_metrics_or_those_after_a_correction(tmp_path: Path) -> None:
    planning.load(written(tmp_path, metrics=["ece", "temperature.ece"]))
    for unknown in ("uar", "temperature.uar", "focal.ece"):
        with pytest.raises(UserError, match=f"own.yaml: no such metric: {unknown}; there are accuracy"):
            planning.load(written(tmp_path, metrics=[unknown]))

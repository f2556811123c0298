"""What a table consists of: rows that are one experiment, rows of one run, and the search before it."""

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
from fer_lightning.evaluation.results import TRIAL, TrialResult, write_trial
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.same_experiment import Objective, objective
from fer_lightning.tables import plan as planning
from fer_lightning.tables import tune
from fer_lightning.tables.plan import RowRun, TablePlan

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


SEARCHED = {
    "rows": [*ROWS[:2], ROWS[2]],
    "tune": {
        "trials": 3,
        "seeds": [7, 8],
        "space": {"focal": {"loss.gamma": [1.0, 4.0]}, "others": {"optimizer.lr": [0.1, 0.2, 0.3]}},
    },
}


def searched(**said: Any) -> TablePlan:
    """The table with its search, some of it said otherwise."""
    rows = said.pop("rows", SEARCHED["rows"])
    return table(rows=rows, tune={**SEARCHED["tune"], **said})


def tried(plan: TablePlan, folder: Path, scores: dict[str, tuple[float, float]]) -> list[RowRun]:
    """The trials of a plan, complete, with a score by option and seed."""
    runs = tune.trials(plan, [], Knowing(), folder)  # type: ignore[arg-type]
    for run in runs:
        assert run.option is not None
        run.run.directory.mkdir(parents=True, exist_ok=True)
        score = scores[run.option][run.seed - 7]
        trial = TrialResult(minival_macro_recall=score, stages=[], config={}, seconds=1.0)
        write_trial(run.run.directory, trial)
    return runs


SCORES = {
    "optimizer.lr=0.1": (0.5, 0.5),
    "optimizer.lr=0.2": (0.9, 0.3),  # the best of one seed, and the best on average
    "optimizer.lr=0.3": (0.4, 0.7),
    "loss.gamma=1": (0.2, 0.2),
    "loss.gamma=2": (0.3, 0.2),
    "loss.gamma=4": (0.3, 0.3),
}


def test_each_row_keeps_its_best_value_by_the_mean_over_the_seeds(tmp_path: Path) -> None:
    plan = searched()
    after, found = tune.chosen(plan, tried(plan, tmp_path, SCORES))
    assert [row.overrides[-1] for row in after.rows] == ["optimizer.lr=0.2", "optimizer.lr=0.2", "loss.gamma=4"]
    assert found[0] == {
        "method": "softmax",
        "key": "optimizer.lr",
        "values": [0.1, 0.2, 0.3],
        "scores": [[0.5, 0.5], [0.9, 0.3], [0.4, 0.7]],
        "chosen": 0.2,
        "edge": False,
    }
    assert (found[2]["method"], found[2]["chosen"], found[2]["edge"]) == ("focal", 4.0, True)


def test_a_range_is_spaced_by_its_logarithm() -> None:
    plan = searched(
        trials=4, space={"focal": {"loss.gamma": [10.0, 0.01]}, "others": {"optimizer.lr": [1e-4, 0.1]}}
    )
    assert tune.options(plan, plan.rows[2]) == [f"loss.gamma={n}" for n in ("0.01", "0.1", "1", "10")]
    assert tune.options(plan, plan.rows[0]) == [f"optimizer.lr={n}" for n in ("0.0001", "0.001", "0.01", "0.1")]


def test_a_row_may_say_what_it_tries() -> None:
    row = {**ROWS[2], "tune": {"loss.label_smoothing": [0.1, 0.2, 0.3]}}
    plan = searched(rows=[row])
    assert tune.options(plan, plan.rows[0])[0] == "loss.label_smoothing=0.1"


def test_trials_lie_apart_and_have_seeds_of_their_own(tmp_path: Path) -> None:
    runs = tune.trials(searched(), [], Knowing(), tmp_path)  # type: ignore[arg-type]
    assert {run.seed for run in runs} == {7, 8}
    assert {run.run.directory.parent for run in runs} == {tmp_path / "trials"}
    assert all(run.run.trial for run in runs)
    assert len({run.run.directory for run in runs}) == 12  # the rival's are softmax's


def test_a_trial_that_failed_stops_the_table(tmp_path: Path) -> None:
    plan = searched()
    runs = tried(plan, tmp_path, SCORES)
    (runs[-1].run.directory / TRIAL).unlink()
    with pytest.raises(UserError, match=r"a trial failed.*focal, loss.gamma=4, seed 8"):
        tune.chosen(plan, runs)


OTHERS = {"others": {"optimizer.lr": [0.1, 0.3]}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"space": {"others": {"optimizer.lr": [0.1, 0.2, 0.3, 0.4]}}}, "every row tries 3 values.* got 4"),
        ({"space": {"focal": {"loss.gamma": [1.0, 2.0]}}}, "softmax: say under space what softmax or others try"),
        ({"space": {"others": {"optimizer.lr": [1, 2], "loss.gamma": [1, 2]}}}, "one number a row"),
        ({"space": {"others": {"optimizer.lr": [0.0, 0.1]}}}, "two positive ends, got 0 and 0.1"),
        ({"space": {**OTHERS, "centre": {"loss.weight": [0.1, 1.0]}}}, "no row has loss=centre"),
        ({"seeds": [1]}, "tune.seeds: 1 is one of the seeds"),
    ],
)
def test_an_unfair_search_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tune.check(searched(**said), [], Knowing())  # type: ignore[arg-type]


def test_a_table_without_search_is_fine() -> None:
    tune.check(table(), [], Knowing())  # type: ignore[arg-type]


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

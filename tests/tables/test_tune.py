"""The search before a table: the same points for every row, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_plan import ROWS, Knowing, table

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.results import TRIAL, TrialResult, write_trial
from fer_lightning.sweeps.planner import Planner
from fer_lightning.tables import plan as planning
from fer_lightning.tables import tune
from fer_lightning.tables.plan import RowRun, TablePlan
from fer_lightning.tables.search_space import Dimension, SearchPlan

LR, GAMMA = "optimizer.lr", "loss.gamma"
ALL = {LR: {"log": [0.001, 0.1]}}
SPACE = {"all": ALL, "focal": {GAMMA: {"linear": [1, 5]}}}
DECAY = {"optimizer.weight_decay": {"linear": [0, 0.1]}}
SMOOTHING = {"loss.label_smoothing": {"linear": [0, 0.2]}}


def searched(rows: list[dict[str, Any]] = ROWS, **said: Any) -> TablePlan:
    """The table with its search, some of it said otherwise."""
    return table(rows=rows, tune={"trials": 8, "seeds": [7, 8], "space": SPACE, **said})


def search_of(plan: TablePlan) -> SearchPlan:
    assert plan.tune
    return plan.tune


def values(plan: TablePlan, row: int, key: str) -> list[Any]:
    """What a row tries of a key."""
    points = tune.points(plan, search_of(plan), plan.rows[row])
    return [point[[*points.dimensions].index(key)] for point in points.values]


def test_a_range_is_covered_evenly_by_its_scale() -> None:
    plan = searched(space={"all": {**ALL, **DECAY}, "focal": SPACE["focal"]})
    eighths = [0.001 * 100 ** (k / 8) for k in range(9)]
    for low, value, high in zip(eighths, sorted(values(plan, 2, LR)), eighths[1:], strict=False):
        assert low * 0.995 <= value <= high * 1.005  # one in each eighth, up to three digits
    for key, width, start in (("optimizer.weight_decay", 0.1, 0), (GAMMA, 4, 1)):
        tried = sorted((value - start) / width for value in values(plan, 2, key))
        assert all(k / 8 - 0.001 <= value <= (k + 1) / 8 + 0.001 for k, value in enumerate(tried))


def test_choices_have_equal_shares() -> None:
    plan = searched(space={"all": {**ALL, "schedule": {"choices": ["cosine", "step"]}}})
    tried = values(plan, 0, "schedule")
    assert (tried.count("cosine"), tried.count("step")) == (4, 4)


@pytest.mark.parametrize(
    "content", [{"log": [0.9991, 0.9999]}, {"linear": [0.99994, 0.99999]}, {"linear": [-1, 1]}]
)
def test_rounded_values_stay_inside(content: dict[str, Any]) -> None:
    (low, high) = next(iter(content.values()))
    dimension = Dimension.model_validate(content)
    tried = [dimension.value(k / 64) for k in range(64)]
    assert all(isinstance(value, float) and low <= value <= high for value in tried)
    assert len(set(tried)) > 1


def test_values_are_words_that_mean_themselves() -> None:
    space = {"all": {"optimizer.lr": {"log": [1e-7, 1e-6]}, "optimizer.fused": {"choices": [True, False]}}}
    plan = searched(ROWS[:1], space=space)
    words = [tune.points(plan, search_of(plan), plan.rows[0]).words(k) for k in range(8)]
    assert {fused for _, fused in words} == {"optimizer.fused=true", "optimizer.fused=false"}
    assert [float(rate.partition("=")[2]) for rate, _ in words] == values(plan, 0, "optimizer.lr")


MORE = [*ROWS, {"method": "center", "overrides": ["loss=center"]}]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (MORE, {"space": {**SPACE, "center": {"loss.weight": {"log": [0.1, 1]}}}}),  # a row, and its loss
        (ROWS[::-1], {}),
        ([ROWS[2]], {}),
        (ROWS, {"space": {**SPACE, "all": {**ALL, **DECAY}}}),
        (ROWS, {"space": {**SPACE, "focal": {**SPACE["focal"], **SMOOTHING}}}),
        (ROWS, {"seeds": [9]}),
        (ROWS, {"trials": 32}),  # the first eight are the same
    ],
    ids=["row", "order", "one row", "key of all", "key of the loss", "seeds", "trials"],
)
def test_what_is_added_moves_no_other_point(rows: list[dict[str, Any]], said: dict[str, Any]) -> None:
    before, after = searched(), searched(rows, **said)
    rates = values(before, 0, LR)
    assert len(set(rates)) == 8
    for k, row in enumerate(after.rows):
        assert values(after, k, LR)[:8] == rates
        if row.method == "focal":
            assert values(after, k, GAMMA)[:8] == values(before, 2, GAMMA)


@pytest.mark.parametrize("trials", [8, 16, 32])
def test_every_row_has_as_many_trials(tmp_path: Path, trials: int) -> None:
    plan = searched(trials=trials)
    runs = tune.trials(plan, search_of(plan), [], Knowing(), tmp_path)  # type: ignore[arg-type]
    counts = {(row.method, seed): 0 for row in plan.rows for seed in (7, 8)}
    for run in runs:
        counts[run.row.method, run.seed] += 1
    assert counts == dict.fromkeys(counts, trials)
    assert {run.run.directory.parent for run in runs} == {tmp_path / "trials"}
    assert all(run.run.trial for run in runs)
    assert len({run.run.directory for run in runs}) == 4 * trials  # the rival's are softmax's


def test_a_row_may_say_what_it_tries() -> None:
    rows = [{**ROWS[2], "tune": SMOOTHING}, {**ROWS[2], "method": "plain", "tune": {}}, ROWS[2]]
    plan = searched(rows)
    keys = [[*tune.points(plan, search_of(plan), row).dimensions] for row in plan.rows]
    assert keys == [[LR, "loss.label_smoothing"], [LR], [LR, GAMMA]]


SCORES = [(0.1, 0.1), (0.5, 0.5), (0.2, 0.2), (0.9, 0.3), (0.4, 0.7), (0.3, 0.3), (0.6, 0.6), (0.0, 0.1)]


def tried(plan: TablePlan, folder: Path) -> list[RowRun]:
    """The trials of a plan, complete."""
    runs = tune.trials(plan, search_of(plan), [], Knowing(), folder)  # type: ignore[arg-type]
    for run in runs:
        assert run.point is not None
        run.run.directory.mkdir(parents=True, exist_ok=True)
        trial = TrialResult(
            minival_macro_recall=SCORES[run.point][run.seed - 7], stages=[], config={}, seconds=1.0
        )
        write_trial(run.run.directory, trial)
    return runs


def test_each_row_keeps_its_best_point_by_the_mean_over_the_seeds(tmp_path: Path) -> None:
    plan = searched()
    after, found = tune.chosen(plan, search_of(plan), tried(plan, tmp_path))
    points = tune.points(plan, search_of(plan), plan.rows[2])
    assert after.rows[2].overrides == ["loss=focal", *points.words(3)]  # 0.6 on average, the first of two
    assert after.rows[0].overrides == ["loss=softmax", points.words(3)[0]]
    assert found[2] == {
        "method": "focal",
        "keys": [LR, GAMMA],
        "points": points.values,
        "scores": [list(scores) for scores in SCORES],
        "chosen": 3,
        "edge": [GAMMA],  # 1.399 is the lowest of its eight values
        "second": 0.0,
    }
    json.dumps(found)


def test_the_edge_and_the_second_best_are_those_of_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = values(searched(), 0, LR)
    for point, edge in ((rates.index(max(rates)), [LR]), (rates.index(min(rates)), [LR]), (4, [])):
        scores = [(0.25, 0.25)] * 7
        monkeypatch.setattr("test_tune.SCORES", [*scores[:point], (0.5, 0.75), *scores[point:]])
        plan = searched(ROWS[:1], space={"all": {**ALL, "schedule": {"choices": ["cosine", "step"]}}})
        _, (found,) = tune.chosen(plan, search_of(plan), tried(plan, tmp_path))
        assert (found["chosen"], found["edge"], found["second"]) == (point, edge, 0.375)


def test_a_trial_that_failed_stops_the_table(tmp_path: Path) -> None:
    plan = searched()
    runs = tried(plan, tmp_path)
    (runs[-1].run.directory / TRIAL).unlink()
    with pytest.raises(UserError, match=r"a trial failed.*focal, optimizer.lr=.*, loss.gamma=.*, seed 8"):
        tune.chosen(plan, search_of(plan), runs)


def space_of(**dimension: Any) -> dict[str, Any]:
    return {"space": {"all": {LR: dimension}}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"trials": 6}, "tune.trials: Input should be 8, 16 or 32"),
        ({"seeds": [7, 7]}, "tune.seeds: 7 is there twice"),
        (space_of(log=[0, 0.1]), r"all.optimizer.lr: a logarithmic interval has two positive ends, got 0 and 0.1"),
        (space_of(log=[0.1, 0.001]), "the first end must be below the second, got 0.1 and 0.001"),
        (space_of(linear=[1, 1]), "the first end must be below the second, got 1 and 1"),
        (space_of(linear=[1]), r"all.optimizer.lr.linear"),
        (space_of(log=["a", 1]), r"all.optimizer.lr.log.0: Input should be a valid number"),
        (space_of(log=[0.1, float("inf")]), "should be a finite number"),
        (space_of(choices=["a"]), "choices: List should have at least 2 items"),
        (space_of(lgo=[0.1, 1]), "all.optimizer.lr.lgo: Extra inputs are not permitted"),
        (space_of(log=[0.1, 1], linear=[0.1, 1]), r"all.optimizer.lr: write \{log: \[0.0001, 0.1\]\}, .*choices"),
        (space_of(), r"all.optimizer.lr: write \{log:"),
        ({"space": {"others": {LR: [0.1, 0.2]}}}, r"others.optimizer.lr: write \{log: .*got \[0.1, 0.2\]"),
        ({"space": {"others": ALL}}, r"tune.space: say under all what every row tries, e.g. all: \{optimizer.lr"),
        ({"space": {"all": {}}}, "tune.space: say under all what every row tries"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_line(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    content = {"title": "T", "rows": ROWS, "seeds": [0], "metrics": ["accuracy"]}
    content["tune"] = {"trials": 8, "seeds": [7], "space": SPACE, **said}
    (tmp_path / "own.yaml").write_text(json.dumps(content).replace("Infinity", ".inf"))
    with pytest.raises(UserError, match=message) as refused:
        planning.load(str(tmp_path / "own.yaml"))
    assert "\n" not in str(refused.value)
    assert "Value error" not in str(refused.value)


MANY = {f"optimizer.part_lr.{k}": {"linear": [0, 1]} for k in range(7)}
FIXED = {**ROWS[0], "overrides": ["optimizer.lr=0.1"]}


@pytest.mark.parametrize(
    ("rows", "said", "overrides", "message"),
    [
        (ROWS, {"seeds": [5, 1]}, [], "tune.seeds: 1 is one of the seeds that are reported"),
        (ROWS, {"space": {**SPACE, "centre": DECAY}}, [], "no row has loss=centre; there are all, focal, softmax"),
        (
            [ROWS[2]],
            {"space": {**SPACE, "all": {**ALL, **MANY}}},
            [],
            "focal: at most 8 keys are searched .* got 9",
        ),
        (ROWS, {"space": {**SPACE, "focal": ALL}}, [], "focal: optimizer.lr is searched by all rows"),
        (ROWS, {}, ["optimizer.lr=0.1"], "softmax: optimizer.lr is searched; leave optimizer.lr=0.1 out, or"),
        ([ROWS[2]], {}, ["loss.gamma=1"], "focal: loss.gamma is searched"),
        ([FIXED], {"space": {"all": ALL}}, [], "softmax: optimizer.lr is searched; leave optimizer.lr=0.1 out"),
        (
            ROWS,
            {"space": {**SPACE, "focal": {"loss.gama": ALL[LR]}}},
            [],
            r"loss.gama: there is no such key.*gamma",
        ),
        ([ROWS[0]], {"space": {"all": {"schedule": {"choices": ["stp", "stp"]}}}}, [], "schedule/stp"),
    ],
)
def test_an_unfair_or_impossible_search_is_refused(
    rows: list[dict[str, Any]], said: dict[str, Any], overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        tune.check(searched(rows, **said), overrides, Planner())
    assert "\n" not in str(refused.value)


def test_a_table_without_search_is_fine() -> None:
    tune.check(table(), [], Knowing())  # type: ignore[arg-type]


def test_an_untuned_table_says_so_and_takes_any_override() -> None:
    plan = tune.untuned(searched(rows=[FIXED]))
    assert plan.notes == [tune.UNTUNED]
    tune.check(plan, ["optimizer.lr=0.1"], Knowing())  # type: ignore[arg-type]

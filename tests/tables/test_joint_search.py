"""The search before a table, really run: it is equal for all rows, and trains a fixed first stage once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import SMALL, Outcome, fer

LR = "stage.fine_tuning.lr_scale"
INERT = "stage.fine_tuning.batch_norm"  # of the blocks that are trained, of which there are none
TABLE = f"""
title: A small table with a search
overrides: [{", ".join(SMALL)}, stage.epochs=1, stage.fine_tuning.freeze=all,
  stage.fine_tuning.epochs=4, optimizer.lr=0.01]
seeds: [0]
tune: {{trials: 8, seeds: [7], space: {{all: {{{LR}: {{log: [0.01, 10.0]}}}}}}}}
metrics: [accuracy, macro_recall]
rows:
  - {{method: plain, overrides: [loss=softmax]}}
  - {{method: more, overrides: [loss=softmax], tune: {{{INERT}: {{choices: [only, never]}}}}}}
  - {{method: weighted, overrides: [loss=softmax, class_weights=inverse]}}
"""


def table(action: str, folder: Path, *words: str) -> Outcome:
    outcome = fer("table", action, str(folder / "small.yaml"), "--out", str(folder / "runs"), *words)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table, planned and run, and what was said."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "small.yaml").write_text(TABLE)
    (folder / "plan.txt").write_text(table("plan", folder).out)
    (folder / "run.txt").write_text(table("run", folder).out)
    return folder


@pytest.fixture(scope="module")
def searches(folder: Path) -> dict[str, dict[str, Any]]:
    """``search`` of table.json by row."""
    return {search["method"]: search for search in json.loads((folder / "runs/table.json").read_text())["search"]}


def test_a_key_that_does_nothing_changes_nothing(folder: Path, searches: dict[str, dict[str, Any]]) -> None:
    plain, more = searches["plain"], searches["more"]
    assert more["keys"] == [LR, INERT]
    assert [point[0] for point in more["points"]] == [point[0] for point in plain["points"]]
    assert {point[1] for point in more["points"]} == {"only", "never"}  # and never with_block, as plain
    assert more["scores"] == plain["scores"]
    assert len({score for (score,) in plain["scores"]}) > 2  # the rates matter
    assert (more["chosen"], more["edge"], more["second"]) == (plain["chosen"], plain["edge"], plain["second"])
    assert len([*(folder / "runs/trials").glob("*/trial.json")]) == 24  # none is another row's


def test_all_rows_try_the_same_rates(searches: dict[str, dict[str, Any]]) -> None:
    assert len({tuple(point[0] for point in search["points"]) for search in searches.values()}) == 1


def test_a_first_stage_is_trained_once_for_all_trials_that_share_it(folder: Path) -> None:
    said = [path.read_text() for path in (folder / "runs/trials").glob("*/log.txt")]
    assert len(said) == 24
    trained = [text for text in said if "feature_extraction: epoch 1 of 1" in text]
    assert len(trained) == 2  # one for each of the class weights
    assert sum("stage found: another run" in text for text in said) == 22


def test_the_plan_counts_the_trials_and_the_foot_tells_what_was_chosen(
    folder: Path, searches: dict[str, dict[str, Any]]
) -> None:
    assert "before them, 8 a row; the runs depend on their results" in (folder / "plan.txt").read_text()
    foot = (folder / "runs/table.md").read_text()
    assert "8 points of one scrambled Sobol sequence with seed 7" in foot
    assert f"All rows tried the same values of {LR}." in foot
    assert "The search concerns the last stage alone: feature_extraction before it is fixed" in foot
    for method, search in searches.items():
        edge = " (at the edge)" if LR in search["edge"] else ""
        assert f"Searched: {method}: {LR}={search['points'][search['chosen']][0]:g}{edge}" in foot
    assert foot.count("; the second best is ") == 3


def test_without_its_search_a_searched_key_may_be_set(folder: Path) -> None:
    planned = table("plan", folder, "--untuned", f"{LR}=2.0").out
    assert "trials before them" not in planned
    refused = fer("table", "plan", str(folder / "small.yaml"), f"{LR}=2.0")
    assert refused.code == 2
    assert f"plain: {LR} is searched; leave {LR}=2.0 out, or give --untuned" in refused.err

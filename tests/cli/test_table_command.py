"""``fer table``: what is complete is not run again, also after it was stopped in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import until_gone
from runs import SMALL, Outcome, fer, terminated

TABLE = f"""
title: A small table
overrides: [{", ".join(SMALL)}, stage.epochs=1]
seeds: [0]
metrics: [accuracy, macro_recall]
contrasts: [[cluster, softmax]]
rows:
  - {{method: softmax, overrides: [loss=softmax]}}
  - {{method: cluster, overrides: [loss=cluster, stage.fine_tuning.epochs=6], abstract: true}}
"""


def words(action: str, folder: Path) -> list[str]:
    return ["table", action, str(folder / "small.yaml"), "--out", str(folder / "runs"), "--jobs", "1"]


def table(action: str, folder: Path) -> Outcome:
    return fer(*words(action, folder))


def said_by_cluster(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "runs").glob("cluster-*/log.txt"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the table was stopped after its first run, by a signal to the command."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "small.yaml").write_text(TABLE)
    done, runs = terminated(*words("run", folder), when=lambda: "epoch 1 of 6" in said_by_cluster(folder))
    assert done.code == 143, done
    assert "[1 of 2] softmax, seed 0" in done.out
    assert runs
    until_gone(runs)
    return folder


def results(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/result.json")}


def test_a_stopped_table_keeps_what_is_complete(stopped: Path) -> None:
    assert [name.split("-")[0] for name in results(stopped)] == ["softmax"]


def test_the_same_command_does_what_is_missing_and_then_nothing(stopped: Path) -> None:
    before = results(stopped)
    plan = table("plan", stopped)
    assert plan.code == 0, plan.err
    assert "softmax: 0 of 1 missing" in plan.out
    assert "cluster: 1 of 1 missing" in plan.out
    again = table("run", stopped)
    assert again.code == 0, again.err
    assert "1 of 2 runs are complete, 1 to do" in again.out
    assert before.items() <= results(stopped).items()
    complete = results(stopped)
    assert len(complete) == 2
    last = table("run", stopped)
    assert last.code == 0, last.err
    assert "all 2 runs are complete, nothing is trained" in last.out
    assert results(stopped) == complete
    for name in ("table.csv", "table.md", "table.tex", "table.svg", "runs.csv", "report.html"):
        assert str(Path("runs") / name) in last.out
        assert (stopped / "runs" / name).stat().st_size > 0
    assert "cluster" in (stopped / "runs" / "table.md").read_text()

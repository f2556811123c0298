"""What has become of a sweep's runs, read from their folders."""

from pathlib import Path

import pytest

from fer_lightning.cli import main
from fer_lightning.core.errors import Stopped, stopped_by_a_full_disk
from fer_lightning.evaluation import results
from fer_lightning.run import claim
from fer_lightning.sweeps import planned_run
from fer_lightning.sweeps.planned_run import PlannedRun, State


def planned(base: Path, name: str, *, trial: bool = False, error: str = "") -> PlannedRun:
    return PlannedRun((f"loss={name}",), base / name, f"the {name} one", trial, error=error)


def done(run: PlannedRun, score: float) -> None:
    run.directory.mkdir()
    stages = [results.StageResult("fine_tuning", 1, 0, score, 5.0)]
    if run.trial:
        trial = results.TrialResult(minival_macro_recall=score, stages=stages, config={}, seconds=5.0)
        return results.write_trial(run.directory, trial)
    scores = {"metrics": {"macro_recall": score - 0.1}, "per_class_recall": {}, "confusion": []}
    empty = {"classes": [], "protocol": {}, "provenance": {}, "config": {}, "seed": 0}
    (run.directory / results.RESULT).write_text(results.Result(**scores, **empty, stages=stages).model_dump_json())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in each state, a trial, one that was never planned, and one that cannot be."""
    made = {name: planned(tmp_path, name) for name in ("done", "running", "failed", "stopped", "missing")}
    trial = planned(tmp_path, "trial", trial=True)
    planned_run.write([*made.values(), trial, planned(tmp_path, "odd", error="loss: no")], tmp_path)
    done(made["done"], 0.6)
    done(trial, 0.7)
    done(planned(tmp_path, "unplanned"), 0.5)
    for name in ("running", "failed", "stopped"):
        made[name].directory.mkdir()
        (made[name].directory / results.LOG).write_text("first line\nepoch 3 of 10, 5 s left\n\n")
    with pytest.raises(ZeroDivisionError), claim.failure_noted(made["failed"].directory):
        raise ZeroDivisionError("by\nnothing")
    return tmp_path


def test_each_state_is_told_with_what_matters_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claim.claimed(folder / "running"):
        assert main.main(["sweep", "status", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "done     the done one: macro recall 50.0, minival 60.0",
        "done     the trial one: minival 70.0",
        "done     unplanned: macro recall 40.0, minival 50.0",
        "missing  the missing one",
        "stopped  the stopped one: epoch 3 of 10, 5 s left",
        "failed   the failed one: ZeroDivisionError: by nothing",
        "failed   the odd one: loss: no",
        "running  the running one: epoch 3 of 10, 5 s left",
        "8 runs: 1 running, 2 failed, 1 stopped, 1 missing, 3 done",
        "to train the failed runs anew, run the sweep's command again with --retry-failed",
    ]


def test_nothing_to_tell_of_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sweep", "status", str(tmp_path)]) == 2
    assert main.main(["sweep", "status", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "no runs were planned or trained here" in said[0]
    assert "no such folder" in said[1]


def test_plans_of_several_sweeps_are_joined_and_the_same_one_replaced(tmp_path: Path) -> None:
    first, second = planned(tmp_path, "a"), planned(tmp_path, "b")
    planned_run.write([first], tmp_path)
    planned_run.write([first, second], tmp_path)
    assert planned_run.read(tmp_path) == [first, second]
    bad = planned(tmp_path, "a", error="data: not there")
    other = tmp_path / "other"
    planned_run.write([bad], other)
    planned_run.write([planned(other, "a")], other)  # mended: planned by the same words
    assert [run.state() for run in planned_run.read(other)] == [State.MISSING]


def test_a_run_that_is_complete_is_unlocked_for_good(tmp_path: Path) -> None:
    with claim.claimed(tmp_path):
        assert claim.is_claimed(tmp_path)
    assert not claim.is_claimed(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_attempt_takes_an_earlier_failure_away(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="once"), claim.failure_noted(tmp_path):
        raise ValueError("once")
    assert claim.read_failure(tmp_path) == "ValueError: once"
    with claim.claimed(tmp_path):
        assert claim.read_failure(tmp_path) is None


def test_a_full_disk_is_no_failure_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="No space"), claim.failure_noted(tmp_path), stopped_by_a_full_disk():
        raise OSError(28, "No space left on device")
    assert claim.read_failure(tmp_path) is None

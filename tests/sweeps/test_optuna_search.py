"""A search by the minival: the same trials whether it was stopped or not, none of which sees the test set."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from fer_lightning.cli.train import train
from fer_lightning.core.errors import Busy, UserError
from fer_lightning.core.files import content_hash
from fer_lightning.evaluation import results
from fer_lightning.run import claim
from fer_lightning.sweeps import optuna_search as search_module
from fer_lightning.sweeps.optuna_search import Search
from fer_lightning.sweeps.planned_run import PlannedRun

WORDS = ["optimizer.lr=tag(log, interval(1e-4, 1.0))", "loss=softmax,cluster", "seed=3"]


class Knowing:
    """Knows runs by their words, without a child process."""

    def planned(self, overrides: Sequence[str], base: Path, label: str, *, trial: bool = False) -> PlannedRun:
        assert trial
        return PlannedRun(tuple(overrides), base / content_hash(list(overrides))[:8], label, trial)


class StoppedError(Exception):
    """What stops a search in these tests."""


def score(run: PlannedRun) -> float:
    """Best at lr = 0.01 with cluster."""
    told = dict(word.split("=") for word in run.words)
    return 0.9 - 0.1 * abs(math.log10(float(told["optimizer.lr"])) + 2) - 0.1 * (told["loss"] == "softmax")


class Training:
    """In place of a sweep: writes what a trial would, and stops where it is told to."""

    stop_after = math.inf
    fails = -1
    trained: list[str]

    def __init__(self, runs: Sequence[PlannedRun], *_: object, **__: object) -> None:
        self.runs = runs

    def train(self) -> None:
        for run in self.runs:
            if len(Training.trained) >= Training.stop_after:
                raise StoppedError
            Training.trained.append(run.label)
            run.directory.mkdir(exist_ok=True)
            if len(Training.trained) - 1 == Training.fails:
                (run.directory / claim.FAILURE).write_text(json.dumps({"said": "diverged"}))
            else:
                told = results.TrialResult(minival_macro_recall=score(run), stages=[], config={}, seconds=1.0)
                results.write_trial(run.directory, told)


@pytest.fixture(autouse=True)
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "Sweep", Training)
    monkeypatch.setattr(Training, "trained", [], raising=False)


def made(base: Path, words: Sequence[str] = WORDS, **numbers: int) -> Search:
    settings = {"n_trials": 12, "n_jobs": 1, "seed": 0, "startup": 4, **numbers}
    return Search(words, Knowing(), base, **settings)  # type: ignore[arg-type]


def tries(search: Search) -> list[dict[str, object]]:
    return [trial.params for trial in search.study.trials]


def test_a_search_finds_what_is_good_and_says_the_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    search = made(tmp_path, n_trials=30)
    assert search.run([], None) == 0
    assert len(Training.trained) == 30
    assert search.study.best_value > 0.85
    assert "best of 30 trials" in caplog.text
    assert "train it: fer train seed=3 optimizer.lr=0.0" in caplog.text


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("after", [1, 5, 8])
def test_a_search_that_was_stopped_ends_with_the_trials_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, after: int
) -> None:
    alone = made(tmp_path / "alone", n_jobs=jobs)
    alone.run([], None)
    monkeypatch.setattr(Training, "trained", [])
    monkeypatch.setattr(Training, "stop_after", after)
    with pytest.raises(StoppedError):
        made(tmp_path / "stopped", n_jobs=jobs).run([], None)
    monkeypatch.setattr(Training, "stop_after", math.inf)
    resumed = made(tmp_path / "stopped", n_jobs=jobs)
    resumed.run([], None)
    assert tries(resumed) == tries(alone)
    assert len(resumed.study.trials) == 12
    assert len(set(Training.trained)) == 12


def test_more_trials_go_on_from_those_there_are(tmp_path: Path) -> None:
    made(tmp_path, n_trials=5).run([], None)
    longer = made(tmp_path, n_trials=7)
    longer.run([], None)
    assert len(Training.trained) == 7
    assert tries(longer)[:5] == tries(made(tmp_path, n_trials=5))[:5]


def test_other_seeds_and_other_words_are_other_studies(tmp_path: Path) -> None:
    names = {
        made(tmp_path, words, seed=seed).study.study_name
        for seed, words in ((0, WORDS), (1, WORDS), (0, WORDS[:2]))
    }
    assert len(names) == 3


def test_a_trial_that_fails_is_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Training, "fails", 2)
    assert made(tmp_path, n_trials=4).run([], None) == 1
    assert "failed: trial 2: optimizer.lr=" in caplog.text
    assert "diverged" in caplog.text


def test_one_process_at_a_study(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)

    def enter(*_: object) -> None:
        with pytest.raises(Busy, match="another process is running this search"):
            second.run([], None)
        raise StoppedError

    first._next = enter  # type: ignore[method-assign, assignment]
    with pytest.raises(StoppedError):
        first.run([], None)


@pytest.mark.parametrize(
    ("words", "numbers", "said"),
    [
        (["seed=3"], {}, "nothing to search over"),
        (["optimizer.lr=interval(1, 0)"], {}, r"optimizer.lr=interval\(1, 0\)"),
        (WORDS, {"n_trials": 0}, "must be at least 1"),
        (["optimizer.lr"], {}, "write group=option or key=value"),
    ],
)
def test_a_mistake_is_said_before_anything(
    tmp_path: Path, words: list[str], numbers: dict[str, int], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        made(tmp_path, words, **numbers)


def test_the_command_line_chooses_it_and_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Seen:
        def __init__(self, words: Sequence[str], _: object, base: Path, **numbers: int) -> None:
            seen.append((words, base, numbers))

        def run(self, hydra_words: Sequence[str], config_dir: str | None, *, retry_failed: bool) -> int:
            seen.append((hydra_words, config_dir, retry_failed))
            return 0

    monkeypatch.setattr("fer_lightning.sweeps.optuna_search.Search", Seen)
    hydra_words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=9", f"hydra.sweep.dir={tmp_path}"]
    assert train(["-m", *hydra_words, *WORDS]) == 0
    assert seen == [
        (WORDS, tmp_path, {"n_trials": 9, "n_jobs": 1, "seed": 0, "startup": 10}),
        (hydra_words, None, False),
    ]

"""A first stage that several runs agree on: trained once, also when they want it at the same time or one dies."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from runs import SMALL, Started, result

WORDS = [*SMALL, "stage=two_stage", "stage.fine_tuning.epochs=1"]
TRAINED, FOUND = "feature_extraction: epoch {} of {}", "stage found: another run"
WAITS = "waiting: another run trains the stage that this one starts with"


def stages(directory: Path) -> list[dict[str, Any]]:
    return list(result(directory)["stages"])


def test_two_that_want_it_at_once_train_it_once(no_stages: Path, tmp_path: Path) -> None:
    words = [*WORDS, "stage.feature_extraction.epochs=8"]
    both = [Started([*words, f"loss={loss}"], tmp_path / loss) for loss in ("center", "cluster")]
    said = [run.rest() for run in both]
    assert sorted(text.count(TRAINED.format(1, 8)) for text in said) == [0, 1]
    assert sorted(text.count(FOUND) for text in said) == [0, 1]
    (first, _), (second, _) = stages(tmp_path / "center"), stages(tmp_path / "cluster")
    assert first["minival_macro_recall"] == second["minival_macro_recall"]
    assert {first["shared"], second["shared"]} == {True, False}


def test_where_the_one_that_trains_it_is_killed_the_other_goes_on(no_stages: Path, tmp_path: Path) -> None:
    words = [*WORDS, "stage.feature_extraction.epochs=20"]
    winner = Started([*words, "loss=center"], tmp_path / "winner")
    winner.until(TRAINED.format(2, 20))  # the state after the first epoch is on disk
    os.kill(winner.pid, signal.SIGSTOP)  # it holds the lock, and the other one finds it held
    other = Started([*words, "loss=cluster"], tmp_path / "other")
    other.until(WAITS)
    winner.kill()
    said = other.rest()
    assert "feature_extraction: continues from" in said
    assert TRAINED.format(1, 20) not in said
    assert TRAINED.format(20, 20) in said
    assert FOUND in Started([*words, "loss=center"], tmp_path / "winner").rest()
    assert (
        stages(tmp_path / "winner")[0]["minival_macro_recall"]
        == stages(tmp_path / "other")[0]["minival_macro_recall"]
    )


@pytest.mark.parametrize(
    ("word", "shared"),
    [
        ("loss=island", True),
        ("stage.fine_tuning.freeze=none", True),
        ("stage.fine_tuning.lr_scale=0.5", True),
        ("logger=none", True),
        ("class_weights=inverse", False),
        ("optimizer.lr=0.002", False),
        ("schedule=step", False),
        ("optimizer.ema_decay=0.9", False),
        ("sampler=balanced", False),
        ("transform=strong", False),
        ("neck=identity", False),
        ("seed=7", False),
        ("stage.feature_extraction.epochs=2", False),
        ("stage.feature_extraction.views=1", False),
        ("trainer.precision=bf16-mixed", False),
        ("trainer.threads=2", False),
        ("data.batch_size=32", False),
        ("data.split_seed=1", False),
        ("backbone.people=5", False),
    ],
)
def test_what_enters_the_first_stage_decides_whether_it_is_shared(
    keys: dict[str, str], word: str, shared: bool
) -> None:
    assert (keys[word] == keys["loss=cluster"]) == shared


@pytest.fixture(scope="module")
def keys(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of the first stage of a run, by what is different in it."""
    from fer_lightning.config.compose import compose
    from fer_lightning.run.set_up import set_up
    from fer_lightning.run.train_stages import Training

    marks = test_what_enters_the_first_stage_decides_whether_it_is_shared.pytestmark
    words = ["loss=cluster", *(word for word, _ in marks[0].args[1])]
    found = {}
    for word in words:
        config = compose([*WORDS, "stage.feature_extraction.epochs=3", word])
        setup = set_up(config)
        found[word] = Training(setup, Path())._key(setup.stages[0])
    return found

"""The score that an epoch is chosen by is the one that is logged, searched by and reported."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bad_files import face
from runs import SMALL, result

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import metrics, results
from fer_lightning.inference.load_model import load_model
from fer_lightning.run import train_and_test
from fer_lightning.run.check_config import check
from fer_lightning.run.final_test import see
from fer_lightning.run.set_up import set_up

CLASSES = ("anger", "happy", "surprise")
ALONE = "surprise"
"""The class that one person shows, whom no split divides."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve persons, of whom one is surprised."""
    folder = tmp_path_factory.mktemp("persons") / "set"
    for part, persons in (("train", range(12)), ("test", range(12, 18))):
        for person in persons:
            shown = [ALONE] * 20 if person == 0 else [*CLASSES[:2], ALONE][: 2 + (part == "test")]
            for number, name in enumerate(shown):
                file = folder / part / name / f"S{person:02}_{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), face(100 * person + number))
    return folder


@cache
def config(root: Path, *words: str) -> dict[str, Any]:
    made = compose(
        [
            *(word for word in SMALL if not word.startswith(("data.rows", "data.test_per_class"))),
            *("data=folder", f"data.root={root}", f"data.classes=[{','.join(CLASSES)}]", r"data.group='(S\d+)_'"),
            *("stage=feature_extraction", "stage.epochs=4", "optimizer.lr=0.05", "seed=1", *words),
        ]
    )
    check(made)
    return made


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_and_test.train(config(root), folder, folder)
    return folder


def kept_on_the_minival(root: Path, run: Path) -> np.ndarray:
    """The confusion matrix of the kept weights, outside of any Trainer."""
    setup = set_up(config(root))
    predictions = see(load_model(run / results.CHECKPOINT).network, setup, "minival").logits.argmax(1).numpy()
    counts = np.zeros((3, 3), np.int64)
    np.add.at(counts, (setup.data.labels("minival"), predictions), 1)
    return counts


def test_an_epoch_is_chosen_by_the_score_that_is_reported(root: Path, run: Path) -> None:
    (stage,) = result(run)["stages"]
    counts = kept_on_the_minival(root, run)
    assert counts.sum(1)[2] == 0, "the minival was to lack a class"
    assert any(epoch["minival/accuracy"] < 1 for epoch in stage["history"])
    assert stage["minival_macro_recall"] == float(metrics.macro_recall(counts))
    scores = [epoch["minival/macro_recall"] for epoch in stage["history"]]
    assert stage["best_epoch"] == scores.index(max(scores))
    assert stage["minival_macro_recall"] == scores[stage["best_epoch"]]
    (logged,) = (run / "logs").rglob("metrics.csv")
    with logged.open() as stream:
        lines = [line["minival/macro_recall"] for line in csv.DictReader(stream)]
    assert [float(line) for line in lines if line] == scores


def test_the_test_set_that_is_watched_scores_as_the_result_does(run: Path) -> None:
    told = result(run)
    (stage,) = told["stages"]
    watched = stage["history"][stage["best_epoch"]]
    assert watched["test/macro_recall"] == told["metrics"]["macro_recall"]
    assert watched["test/accuracy"] == told["metrics"]["accuracy"]


def test_scores_of_a_result_are_those_of_its_confusion_matrix(run: Path) -> None:
    told = result(run)
    counts = np.array(told["confusion"])
    for name in metrics.OF_CONFUSION:
        assert told["metrics"][name] == float(metrics.METRICS[name].of_counts(counts)), name


def test_a_trial_is_told_the_same_score(root: Path, run: Path, tmp_path: Path) -> None:
    train_and_test.train(config(root), tmp_path, tmp_path, trial=True)
    trial = results.read_trial(tmp_path)
    assert trial is not None
    assert trial.minival_macro_recall == result(run)["stages"][-1]["minival_macro_recall"]


def test_a_class_that_the_minival_lacks_is_a_notice(run: Path) -> None:
    (text,) = [text for text in result(run)["notices"] if text.startswith("the minival has no picture of")]
    assert text.startswith(f"the minival has no picture of {ALONE}: epochs are chosen by the recall of the other")


def test_a_minival_without_a_picture_is_a_mistake(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.minival=0\.2: .* one person or sequence"):
        set_up(config(root, r"data.group='(S)\d+_'"))

"""The table over folds: by hand on made-up results, and its mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import CLASSES, config
from made_up import result as made_up_result
from runs import SMALL, fer

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.evaluation.resampling import RESAMPLES, percentile_interval
from fer_lightning.tables.analysis.folds import load
from fer_lightning.tables.output.folds_table import to_text, write
from fer_lightning.tables.output.formats import points

FOLDS, PERSONS, PICTURES = 3, 12, 5


def put(
    folder: Path,
    loss: str,
    seed: int,
    fold: int,
    right: float,
    *,
    known: bool = True,
    first: int = 0,
    faces: str = "a",
) -> None:
    """A run that is right on a share of the pictures of its fold's persons, drawn by loss, seed and fold."""
    random = np.random.default_rng([len(loss), seed, fold])
    persons = [person for person in range(PERSONS) if person % FOLDS == fold]
    ids = [f"S{person:03}_{first + number}.png" for person in persons for number in range(PICTURES)]
    labels = np.array([number % len(CLASSES) for _ in persons for number in range(PICTURES)])
    wrong = random.random(len(labels)) > right
    probabilities = np.eye(len(CLASSES))[(labels + wrong) % len(CLASSES)]
    said = config(loss, "none", seed, data={"folds": FOLDS, "fold": fold})
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (labels, probabilities.argmax(1)), 1)
    content: dict[str, Any] = {**made_up_result(right, said), "confusion": confusion.tolist()}
    of_fold = {"faces": f"{faces} {fold}", "all_faces": faces, "test_split": f"fold {fold} of {FOLDS}"}
    content["protocol"] = {**content["protocol"], **of_fold}
    directory = folder / f"{loss}-s{seed}-{fold}-{faces}"
    directory.mkdir(parents=True)
    who = [name.partition("_")[0] for name in ids] if known else []
    results.write(directory, results.Result.model_validate(content), ids, labels, probabilities, {}, who)


def fill(folder: Path, rights: dict[str, float], seeds: int = 2, **more: Any) -> None:
    for loss, right in rights.items():
        for seed in range(seeds):
            for fold in range(FOLDS):
                put(folder, loss, seed, fold, right, **more)


def test_every_person_is_tested_once_and_the_numbers_are_those_of_the_pictures(tmp_path: Path) -> None:
    fill(tmp_path, {"softmax": 0.7, "cluster": 0.9})
    by_name = {method.name: method for method in load(tmp_path)}
    assert set(by_name) == {"softmax", "cluster"}
    method = by_name["softmax"]
    assert (method.seeds, method.folds, method.known) == (2, FOLDS, True)
    assert method.by_person.sum(axis=(2, 3)).tolist() == [[PICTURES] * 2] * PERSONS
    assert (method.by_fold.sum(1) == method.by_person.sum(0)).all()
    of_seeds = method.by_fold.sum(1)
    accuracy = np.trace(of_seeds, axis1=1, axis2=2) / (PERSONS * PICTURES)
    assert method.pooled("accuracy") == pytest.approx(accuracy.mean())
    recall = np.diagonal(of_seeds, axis1=1, axis2=2) / of_seeds.sum(2)
    assert method.pooled("macro_recall") == pytest.approx(recall.mean())
    by_hand = [np.mean([np.trace(method.by_fold[s, f]) / 20 for s in range(2)]) for f in range(FOLDS)]
    assert method.fold_values("accuracy") == pytest.approx(by_hand)


def test_intervals_are_over_persons_drawn_with_replacement(tmp_path: Path) -> None:
    fill(tmp_path, {"softmax": 0.7})
    (method,) = load(tmp_path)
    resampled = method.resampled("accuracy")
    assert len(resampled) == RESAMPLES
    of_person = np.trace(method.by_person, axis1=2, axis2=3).mean(1) / PICTURES
    random = np.random.default_rng(1)
    direct = of_person[random.integers(0, PERSONS, (20_000, PERSONS))].mean(1)
    assert percentile_interval(resampled) == pytest.approx(percentile_interval(direct), abs=0.02)
    assert resampled.std() == pytest.approx(direct.std(), rel=0.1)


def test_text_and_file(tmp_path: Path) -> None:
    fill(tmp_path, {"softmax": 0.5, "cluster": 1.0})
    methods = load(tmp_path)
    text = to_text(methods)
    assert "60 pictures of 12 persons in 3 classes and 3 folds; each is tested once" in text
    assert "no person is in two folds" in text
    assert "softmax less cluster: −" in text
    lines = write(methods, tmp_path).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["method", "cluster", "softmax"]
    values = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert float(values["accuracy_pooled"]) == float(values["macro_recall_fold_mean"]) == 1.0


def test_intervals_of_several_differences_hold_all_at_once(tmp_path: Path) -> None:
    fill(tmp_path, {"softmax": 0.5, "cluster": 0.6, "center": 0.7}, seeds=1)
    first, second, third = load(tmp_path)
    text = to_text([first, second, third])
    assert "The intervals of the 2 differences of a metric hold all at once (Bonferroni)." in text
    gaps = second.resampled("accuracy") - first.resampled("accuracy")
    low, high = (points(end, sign=True) for end in np.quantile(gaps, [0.0125, 0.9875]))
    assert f"points of accuracy, simultaneous 95 % interval [{low}, {high}]" in text
    assert "points of accuracy, 95 % interval [" in to_text([first, second])


def test_without_persons_the_pictures_are_drawn_and_it_is_said(tmp_path: Path) -> None:
    fill(tmp_path, {"softmax": 0.7}, known=False)
    (method,) = load(tmp_path)
    assert (len(method.by_person), method.known) == (PERSONS * PICTURES, False)
    assert "Nobody says who is pictured" in to_text([method])


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    put(tmp_path / "some", "softmax", 0, 1, 0.7)
    with pytest.raises(UserError, match=r"softmax lacks seed=0 data\.fold=0, seed=0 data\.fold=2; train these"):
        load(tmp_path / "some")
    fill(tmp_path / "other", {"softmax": 0.7})
    fill(tmp_path / "other", {"cluster": 0.7}, first=50)
    with pytest.raises(UserError, match="its methods were tested on different pictures"):
        load(tmp_path / "other")
    fill(tmp_path / "replaced", {"softmax": 0.7})
    fill(tmp_path / "replaced", {"softmax": 0.7}, faces="b")  # pictures of the same names, replaced in between
    with pytest.raises(UserError, match="its methods were tested on different pictures"):
        load(tmp_path / "replaced")
    (tmp_path / "plain").mkdir()
    results_folder = tmp_path / "plain" / "run"
    results_folder.mkdir()
    content = results.Result.model_validate(made_up_result(0.5, config()))
    results.write(results_folder, content, ["a"], np.zeros(1, np.int64), np.eye(3)[:1], {})
    with pytest.raises(UserError, match=r"no run was tested on a fold; train them with data\.folds=10"):
        load(tmp_path / "plain")


def test_from_the_command_line(tmp_path: Path) -> None:
    words = [*SMALL, "data.folds=3", "data.fold=0,1,2", "stage=feature_extraction", "stage.epochs=1"]
    trained = fer("train", "-m", *words, f"hydra.sweep.dir={tmp_path}")
    assert trained.code == 0, trained.err
    shown = fer("table", "folds", str(tmp_path))
    assert shown.code == 0, shown.err
    assert "184 pictures of" in shown.out
    assert "persons in 8 classes and 3 folds" in shown.out
    assert (tmp_path / "folds.csv").exists()

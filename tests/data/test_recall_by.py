"""Columns that say who is pictured, and columns by whose values recall is told."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_files import face
from layouts import PUT, text
from runs import SMALL, fer

from fer_lightning.config.compose import Composer
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import by_group

COMPOSE = Composer()


def put(root: Path) -> Path:
    lines = ["path,label,split,who,sex,age"]
    for number in range(72):
        label, split = ("happy", "sad", "anger")[number % 3], "test" if number % 4 == 0 else "train"
        file = root / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), face(number, 32))
        lines.append(f"{number}.png,{label},{split},p{number // 6},{('f', 'm', '')[number // 4 % 3]},{number}")
    text(root / "faces.csv", *lines)
    return root


def config(root: Path, *words: str) -> dict:
    return COMPOSE(
        [
            *("data=csv", f"data.root={root}", f"data.store={root.parent / 'stores'}", "data.size=32"),
            *("data.classes=[happy,sad,anger]", "data.codec=raw", *words),
        ]
    )


def test_a_column_says_who_is_pictured(tmp_path):
    store = dataset.store(config(put(tmp_path / "set"), "data.group=who", "data.folds=4"))
    persons = [set(store.split(name).identity.to_pylist()) for name in ("train", "test")]
    assert not persons[0] & persons[1]
    assert len(persons[0] | persons[1]) == 12


def test_attributes_are_those_of_the_rows(tmp_path):
    root = put(tmp_path / "set")
    store = dataset.store(config(root, "data.recall_by=[sex]"))
    for name in ("train", "test"):
        split = store.split(name)
        numbers = [int(path.removesuffix(".png")) for path in split.ids]
        expected = [{"sex": sex} if (sex := ("f", "m", "")[number // 4 % 3]) else {} for number in numbers]
        assert split.attributes == expected
    assert dataset.store(config(root)).split("test").attributes == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["data.recall_by=[gender]"],
            r"data\.recall_by: .*faces\.csv has no column 'gender'; it has: path, label",
        ),
        (["data.recall_by=[age]"], r"data\.recall_by: age has 72 values, and recall is told by at most 20"),
        (["data.group=whom"], r"data\.columns\.identity=whom: .* has no such column \(did you mean who\?\)"),
    ],
)
def test_mistakes_are_one_line(tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        dataset.manifest(config(put(tmp_path / "set"), *words))


@pytest.mark.parametrize(
    ("word", "said"), [("group=who", "regular expression"), ("recall_by=[sex]", "data=csv has")]
)
def test_a_layout_without_columns(tmp_path, word, said):
    PUT["folder"](tmp_path / "set")
    with pytest.raises(UserError, match=said):
        dataset.manifest(COMPOSE(["data=folder", f"data.root={tmp_path / 'set'}", f"data.{word}"]))


def test_scores_of_groups_by_hand():
    labels, predictions = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 1, 1, 0])
    attributes = [{"sex": "f"}, {"sex": "f"}, {"sex": "f"}, {"sex": "m"}, {}]
    scores = by_group(predictions, labels, attributes, ("happy", "sad"))
    assert scores == {
        "sex": {
            "f": {
                "images": 3,
                "accuracy": pytest.approx(2 / 3),
                "macro_recall": 0.75,
                "per_class_recall": {"happy": 0.5, "sad": 1.0},
            },
            "m": {
                "images": 1,
                "accuracy": 1.0,
                "macro_recall": 1.0,
                "per_class_recall": {"happy": None, "sad": 1.0},
            },
        }
    }


def test_a_run_tells_recall_by_group(tmp_path):
    root = put(tmp_path / "set")
    words = [word for word in SMALL if not word.startswith(("data.rows", "data.test_per_class"))]
    words += [
        "data=csv",
        f"data.root={root}",
        "data.classes=[happy,sad,anger]",
        "data.codec=raw",
        "data.workers=0",
    ]
    words += ["data.recall_by=[sex]", "stage=feature_extraction", "stage.epochs=1"]
    outcome = fer("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    assert "macro recall by sex (images): f " in outcome.out
    result = results.read(tmp_path / "run")
    assert result is not None
    groups = result.by_group["sex"]
    assert {name: scores.images for name, scores in groups.items()} == {"f": 6, "m": 6}
    assert json.loads((tmp_path / "run" / results.RESULT).read_text())["by_group"]["sex"].keys() == {"f", "m"}

"""``fer evaluate`` on other sets: classes matched by name, whole sets, several sets in one table."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from layouts import PUT, SEVEN, picture, put_folder
from runs import SMALL, Outcome, fer, result

from fer_lightning.cli.evaluate import words_of_set
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis.predictions import read
from fer_lightning.tables.analysis.read_runs import read_runs
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.output import exports

EMOTIONAL = SEVEN[1:]
"""The classes of a set like CK+: all of the model's but neutral."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of seven classes, without contempt."""
    folder = tmp_path_factory.mktemp("trained") / "seven"
    learning = ["optimizer.lr=0.01", "stage.epochs=1", "stage.fine_tuning.epochs=3", "seed=3"]
    done = fer("train", *SMALL, *learning, f"data.classes=[{','.join(SEVEN)}]", f"hydra.run.dir={folder}")
    assert done.code == 0, done.out + done.err
    return folder / "best.ckpt"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sets: ck without neutral and splits, ferplus with contempt, rafdb, and two of few classes."""
    folder = tmp_path_factory.mktemp("sets")
    for seed, name in enumerate(2 * EMOTIONAL):
        picture(folder / "ck" / name / f"{seed}.png", seed)
    for option in ("ferplus", "rafdb"):
        PUT[option](folder / option)
    put_folder(folder / "unhappy", names=["sad", "contempt"])
    put_folder(folder / "scornful", names=["contempt", "none"])
    return folder


def evaluated(checkpoint: Path, out: Path, *words: str) -> Outcome:
    done = fer("evaluate", str(checkpoint), *words, f"hydra.run.dir={out}")
    assert done.code == 0, done.out + done.err
    assert done.err == ""
    assert "training on" not in done.out
    return done


def probabilities(folder: Path, names: tuple[str, ...]) -> np.ndarray:
    table = pq.read_table(folder / "predictions.parquet").sort_by("id")
    return np.stack([table[f"p_{name}"].to_numpy() for name in names], axis=1)


def test_a_whole_set_that_lacks_a_class(checkpoint: Path, sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "ck"
    done = evaluated(checkpoint, out, "data=folder", f"data.root={sets / 'ck'}", "data.test_split=all")
    assert "testing on folder (all): happy 2, sad 2," in done.out
    assert "compared on 6 of the model's 7 classes" in done.out
    assert "a mistake where predicted, unless with --drop-absent: neutral" in done.out
    told = result(out)
    assert told["classes"] == list(SEVEN)
    assert told["protocol"]["test_split"] == "all"
    recall = told["per_class_recall"]
    assert recall["neutral"] is None
    assert told["metrics"]["macro_recall"] == pytest.approx(np.mean([recall[name] for name in EMOTIONAL]))
    assert np.sum(told["confusion"], axis=1).tolist() == [0, 2, 2, 2, 2, 2, 2]
    assert told["data"]["train"] == {}
    (run,) = read_runs(tmp_path / "runs")
    answers = read(tmp_path / "runs", run)
    assert answers is not None
    assert len(answers.ids) == 12
    assert exports.to_text(load(tmp_path / "runs")).splitlines()[1].startswith("softmax")


def test_absent_classes_are_dropped_where_that_is_asked_for(checkpoint: Path, sets: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={sets / 'ck'}", "data.test_split=all"]
    evaluated(checkpoint, tmp_path / "kept", *words)
    evaluated(checkpoint, tmp_path / "dropped", *words, "--drop-absent")
    told = result(tmp_path / "dropped")
    assert told["classes"] == told["protocol"]["classes"] == list(EMOTIONAL)
    assert np.shape(told["confusion"]) == (6, 6)
    before = probabilities(tmp_path / "kept", SEVEN)
    assert before[:, 0].min() > 0.01
    expected = before[:, 1:] / before[:, 1:].sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(tmp_path / "dropped", EMOTIONAL), expected, rtol=1e-9)
    table = pq.read_table(tmp_path / "dropped" / "predictions.parquet").sort_by("id")
    assert table["prediction"].to_pylist() == [EMOTIONAL[k] for k in expected.argmax(1)]
    assert table["label"].to_pylist() == [name.partition("/")[0] for name in table["id"].to_pylist()]
    with np.load(tmp_path / "dropped" / "embeddings.npz") as kept:
        assert [EMOTIONAL[k] for k in kept["labels"]] == [name.partition("/")[0] for name in kept["ids"].tolist()]
        assert len(kept["class_means"]) == 6


def test_pictures_of_a_class_that_the_model_lacks_are_left_out(
    checkpoint: Path, sets: Path, tmp_path: Path
) -> None:
    done = evaluated(checkpoint, tmp_path, "data=ferplus", f"data.root={sets / 'ferplus'}")
    assert "1 rows left out of the test: contempt 1" in done.out
    assert "compared on" not in done.out
    assert result(tmp_path)["data"]["left_out"] == {"contempt": 1}
    assert "contempt" not in pq.read_table(tmp_path / "predictions.parquet")["label"].to_pylist()


def test_both_at_once(checkpoint: Path, sets: Path, tmp_path: Path) -> None:
    done = evaluated(checkpoint, tmp_path, "data=folder", f"data.root={sets / 'unhappy'}")
    assert "testing on folder (test): sad 1" in done.out
    assert "1 rows left out of the test: contempt 1" in done.out
    assert "compared on 1 of the model's 7 classes: sad;" in done.out
    assert np.isnan(result(tmp_path)["metrics"]["auroc"])


def test_a_set_that_could_be_trained_on_keeps_its_training_rows(
    checkpoint: Path, sets: Path, tmp_path: Path
) -> None:
    done = evaluated(checkpoint, tmp_path, "data=rafdb", f"data.root={sets / 'rafdb'}")
    assert "testing on rafdb (test): neutral 1, happy 1," in done.out
    assert set(result(tmp_path)["data"]["train"].values()) == {1}


def test_the_whole_of_the_set_that_it_was_trained_on(checkpoint: Path, tmp_path: Path) -> None:
    done = evaluated(checkpoint, tmp_path, "data.test_split=all")
    assert "the model was trained on synthetic: if it is this set" in done.out
    assert sum(result(tmp_path)["data"]["test"].values()) > 100


def test_several_sets_and_checkpoints_in_one_table(checkpoint: Path, sets: Path, tmp_path: Path) -> None:
    again = tmp_path / "copy" / checkpoint.parent.name / checkpoint.name  # a run's folder of the same name
    again.parent.mkdir(parents=True)
    shutil.copy(checkpoint, again)
    whole = [f"data=folder data.root='{sets / name}' data.test_split=all" for name in ("ck", "unhappy")]
    on = [word for text in (*whole, f"data=rafdb data.root={sets / 'rafdb'}") for word in ("--on", text)]
    done = evaluated(checkpoint, tmp_path / "out", *on, str(again))
    with (tmp_path / "out" / "sets.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    names = [f"folder in {sets / 'ck'}", f"folder in {sets / 'unhappy'}", "rafdb"]
    assert [(row["checkpoint"], row["set"]) for row in rows] == [
        (str(path), name) for path in (checkpoint, again) for name in names
    ]
    assert [row["images"] for row in rows[:3]] == ["12", "2", "7"]
    assert [row["classes"] for row in rows[:3]] == ["6", "1", "7"]
    assert len(list((tmp_path / "out").glob("*/result.json"))) == 6
    for row in rows:
        for name in ("accuracy", "macro_recall", "macro_f1"):
            low, value, high = (float(row[f"{name}{part}"]) for part in ("_low", "", "_high"))
            assert low - 1e-6 <= value <= high + 1e-6  # torchmetrics has F1 in float32
    assert {key.removesuffix("_low") for key in rows[0] if key.endswith("_low")} == set(METRICS)
    for text in (done.out, (tmp_path / "out" / "sets.md").read_text()):
        assert "6 of 7" in text
        assert "95 % intervals" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=folder", "data.root={}/scornful"], "has none of the classes neutral, happy"),
        (["data=folder", "data.root={}/nowhere", "data.test_split=all"], "nowhere"),
        (["data=folder", "data.root={}/ck"], "data.test_split=all"),
        (["data=ferplus", "data.root={}/ferplus", "data.classes=[happy,contempt]"], "no class 'contempt'"),
        (["data=folder", "data.root={}/unhappy", "--drop-absent"], "test pictures of sad only"),
        (["data.test_split=all", "data.exclude=copies.json"], "say data.exclude=null"),
        (["loss=center"], "loss is determined by the checkpoint"),
        (["--on", "data=rafdb", "data.root={}/rafdb"], "stands outside --on; put all words"),
        (["--on", "data=rafdb loss=center"], "loss cannot be set here"),
        (["--on", "data=rafdb hydra.run.dir=x"], "hydra.run.dir cannot be set here"),
        (["--on", "data=rafdb data.rot=x"], "did you mean root?"),
        (["--on", "data=rafbd"], "rafbd"),
        (["--on", "data=rafdb {}"], "is no override"),
        (["--on", "data=rafdb data.root='x"], "a quote is not closed"),
        (["--on", " "], "--on is empty"),
        (["--on"], "expected one argument"),
        (["--onto", "data=rafdb"], "unrecognized arguments: --onto"),
        (["other.ckpt"], "other.ckpt: no such file"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    checkpoint: Path, sets: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    done = fer("evaluate", str(checkpoint), *(word.format(sets) for word in words), folder=tmp_path)
    assert done.code == 2, done
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert said in done.err
    assert not list(tmp_path.rglob("result.json"))


def test_all_mistakes_are_found_before_the_first_test(
    checkpoint: Path, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "prepare", None)
    on = ["--on", f"data=rafdb data.root={sets / 'rafdb'}", "--on", "data=rafdb data.root=/nowhere"]
    done = fer("evaluate", str(checkpoint), *on, folder=tmp_path)
    assert done.code == 2, done
    assert "/nowhere" in done.err


def test_nothing_is_trained_where_all_is_tested_on(tmp_path: Path) -> None:
    for words in (["train"], ["train", "-m", "seed=0,1"]):
        done = fer(*words, *SMALL, "data.test_split=all", folder=tmp_path)
        assert done.code == 2, done
        assert done.err.startswith("fer: data.test_split=all: all pictures would be tested on"), done.err
        assert len(done.err.strip().splitlines()) == 1


def test_a_whole_set_is_prepared(sets: Path) -> None:
    words = ["data=folder", f"data.root={sets / 'ck'}", "data.classes=[sad,happy]", "data.test_split=all"]
    done = fer("prepare", *words)
    assert done.code == 0, done
    assert "testing on folder (all): sad 2, happy 2" in done.out
    assert "8 rows left out of the test: anger 2, disgust 2, fear 2, surprise 2" in done.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data=rafdb  data.root=/a", ["data=rafdb", "data.root=/a"]),
        ("data=rafdb data.root='/a b'", ["data=rafdb", "data.root='/a b'"]),
        ('data=rafdb "data.root=/a b"', ["data=rafdb", "data.root=/a b"]),
        ("data.classes=[sad,happy] trainer=gpu", ["data.classes=[sad,happy]", "trainer=gpu"]),
    ],
)
def test_words_of_a_set(text: str, words: list[str]) -> None:
    assert words_of_set(text) == words


def test_a_word_that_is_no_override_of_a_set() -> None:
    with pytest.raises(UserError, match="only data and trainer can"):
        words_of_set("~data=rafdb database.root=x")

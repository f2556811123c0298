"""The words of a command line: what cannot be read is told how to write, and what is not used is refused."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from runs import SMALL, Outcome, fer

from fer_lightning.config.compose import compose
from fer_lightning.config.overrides import parse
from fer_lightning.core.errors import UserError
from fer_lightning.run.check_config import check

HARD = ["a=b", "x(1)", "#1", "it's", 'a"b', "/faces/ö", "漢", "a;b", "$HOME!=", "a\\b=c", "a=\\"]


def refused(*words: str, code: int = 2) -> str:
    """The one line of a command that trains nothing."""
    done: Outcome = fer(*words)
    assert done.code == code, done
    (line,) = done.err.splitlines()
    assert line.startswith("fer: ")
    return line.removeprefix("fer: ")


@pytest.mark.parametrize("command", [["train"], ["train", "-m"], ["prepare"], ["table", "plan", "embedded"]])
@pytest.mark.parametrize("value", HARD)
def test_a_value_that_cannot_be_read_is_shown_in_quotes(command: list[str], value: str) -> None:
    line = refused(*command, "data=affectnet", f"data.root={value}")
    said, _, shown = line.partition(": put quotes around the value: ")
    assert said == f"data.root={value}"
    (word,) = shlex.split(shown)  # as it is typed in a shell
    (override,) = parse([word])
    assert override.value() == value
    assert compose(["data=affectnet", word])["data"]["root"] == value


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("loss=softmax, center", "loss=softmax,: a list of choices goes without spaces: loss=softmax,center"),
        ("=1", "=1: write group=option or key=value"),
        ("+=1 loss=softmax", "+=1: write group=option or key=value"),
        ("~", "~: write group=option or key=value"),
        ("loss=[1]", "loss=[1]: choose one of the group's options by its name"),
        ("loss={a:1}", "loss={a:1}: choose one of the group's options by its name"),
        ("stage=null", "stage=null: choose one of the group's options by its name"),
        ("loss=cluster =softmax", "=softmax: write group=option or key=value"),
        ("loss = softmax", "loss: write group=option or key=value"),
        (
            "--optimizer.lr=0.01",
            "fer train: unrecognized arguments: --optimizer.lr=0.01; write optimizer.lr=0.01",
        ),
        ("--config-dir", "fer train: argument -cd/--config-dir: expected one argument"),
        ("data.size=64 loss=3", "loss=3: choose one of the group's options by its name, e.g. loss=cluster"),
        ("hydra.sweep.dir=x", "fer train does not use hydra.sweep.dir=x; it takes hydra.run.dir=FOLDER"),
        ("-m hydra.run.dir=x", "fer train -m does not use hydra.run.dir=x; it takes hydra.sweep.dir=FOLDER"),
        ("hydra/launcher=joblib", "fer train does not use hydra/launcher=joblib; it takes hydra.run.dir=FOLDER"),
        ("hydra.run.dir=${nowhere}", "hydra.run.dir=${nowhere}: Interpolation key 'nowhere' not found"),
    ],
)
def test_what_train_does_not_take(words: str, line: str) -> None:
    assert refused("train", *words.split()).startswith(line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "table run embedded hydra.sweep.dir=x",
            "fer table does not use hydra.sweep.dir=x; it takes --out FOLDER",
        ),
        (
            "evaluate x.ckpt hydra.sweep.dir=x",
            "fer evaluate does not use hydra.sweep.dir=x; it takes hydra.run.dir",
        ),
        ("prepare hydra.run.dir=x", "fer prepare does not use hydra.run.dir=x; it takes data.store=FOLDER"),
        ("table run embedded --seeds", "fer table run: argument --seeds: expected one argument"),
        ("prepare --data.size=3", "fer prepare: unrecognized arguments: --data.size=3; write data.size=3"),
        ("doctor", "fer doctor: the following arguments are required: ROOT"),
        ("sweep", "fer sweep: the following arguments are required: action, folder"),
    ],
)
def test_what_other_commands_do_not_take(words: str, line: str) -> None:
    assert refused(*words.split()).startswith(line)


def test_a_number_where_a_word_is_meant() -> None:
    with pytest.raises(UserError) as caught:
        check(compose(["data=affectnet", "data.root=2024"]))
    assert str(caught.value) == """data.root=2024: must be a valid string; write "data.root='2024'\""""
    check(compose(["data=affectnet", "data.root='2024'"]))


@pytest.mark.parametrize("value", ["~", "~/faces", "~/a (1)/b=c", "~/a [b]"])
def test_home_is_a_value_without_quotes(value: str) -> None:
    for key in ("data.root", "data.store", "backbone.weights"):
        group, name = key.split(".")
        assert compose([f"{key}={value}"])[group][name] == value


def test_home_is_the_users_in_folders_of_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = [*SMALL, "stage=feature_extraction", "stage.epochs=1", "seed=7"]
    done = fer("train", *small, "hydra.run.dir=~/out (1)/s${seed}")
    assert done.code == 0, done
    assert (tmp_path / "out (1)/s7/result.json").is_file()
    swept = fer("train", "-m", *small, "hydra.sweep.dir=~/swept")
    assert swept.code == 0, swept
    assert len(list(tmp_path.glob("swept/*/result.json"))) == 1
    assert not Path("~").exists()


def test_a_batch_larger_than_an_epoch_is_told_before_training(tmp_path: Path) -> None:
    for words in (["train"], ["train", "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}"]):
        line = refused(*words, *SMALL, "data.batch_size=192")
        assert line == "data.batch_size=192: an epoch shows 126 pictures; choose a smaller one"
    assert not list(tmp_path.glob("*/failed.json"))
    line = refused("train", *SMALL, "backbone.batch_size=64")
    assert line == "backbone: batch_size=64 is more than the people x pictures=32 there are"

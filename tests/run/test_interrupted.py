"""A run that is stopped and started again ends with the digits of one that was left alone, whatever it was."""

import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import rest, start, until
from pytorch_lightning import LightningModule, Trainer

from fer_lightning.config.compose import compose
from fer_lightning.evaluation import results
from fer_lightning.run import train_and_test
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.run.check_config import check
from fer_lightning.training.callbacks.epoch_log import EpochLine
from fer_lightning.training.trainer import LAST

SMALL = ["data.rows=803", "backbone.people=20", "backbone.pictures=10", "backbone.epochs=1", "seed=5"]
EPOCHS = 3
RUNS = {
    "feature extraction": ["stage=feature_extraction", "loss=cluster", "sampler=progressive"],
    "views": ["stage=feature_extraction", "stage.feature_extraction.views=2", "loss=sparse_center"],
    "frozen, not cached": ["stage=feature_extraction", "stage.feature_extraction.cached=false", "loss=center"],
    "fine-tuning": ["stage=fine_tuning", "loss=cluster", "loss.center_update=exact", "optimizer.ema_decay=0.9"],
    "from scratch": ["stage=from_scratch", "+backbone.arguments.drop_path_rate=0.3", "class_weights.from_epoch=1"],
    "two stages": [
        "stage=two_stage",
        "loss=island",
        "loss.center_update=gradient",
        "optimizer=sgd",
        "schedule=step",
    ],
    "bf16, accumulated": ["stage=fine_tuning", "trainer.precision=bf16-mixed", "trainer.accumulate=2"],
}
runs = pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)


class CutError(Exception):
    """What stops a run in these tests."""


def config(words: list[str]) -> dict[str, Any]:
    made = compose([*SMALL, "class_weights=min_over_count", *words, f"stage.epochs={EPOCHS}"])
    check(made)
    return made


def forget_stages() -> None:
    """So that a first stage is trained, and not found."""
    for path in (Path(os.environ["FER_CACHE"]) / "stages").glob("*/*"):
        path.unlink()


def train(words: list[str], directory: Path) -> None:
    train_and_test.train(config(words), directory, directory)


def digits(directory: Path) -> dict[str, Any]:
    """All numbers of a result that training decides, and the weights that were kept."""
    told = json.loads((directory / results.RESULT).read_text())
    kept = ("metrics", "confusion", "per_class_recall", "posthoc")
    stages = [
        {key: value for key, value in stage.items() if key not in ("seconds", "shared")}
        for stage in told["stages"]
    ]
    for epoch in (epoch for stage in stages for epoch in stage["history"]):
        for name in ("images_per_second", "waiting_share"):
            del epoch[name]
    weights = torch.load(directory / results.CHECKPOINT, weights_only=True)["state_dict"]
    sums = {name: value.double().sum().item() for name, value in weights.items()}
    return {"stages": stages, "weights": sums, **{key: told[key] for key in kept}}


def interrupted(monkeypatch: pytest.MonkeyPatch, words: list[str], directory: Path) -> int:
    """Train in as many runs as it takes, each cut where an epoch begins that none began before. Returns them."""
    seen: set[tuple[str, int]] = set()

    def cut(self: EpochLine, trainer: Trainer, pl_module: LightningModule) -> None:
        place = (str(trainer.checkpoint_callbacks[-1].dirpath), trainer.current_epoch)  # type: ignore[attr-defined]
        if place not in seen:
            seen.add(place)
            raise CutError

    monkeypatch.setattr(EpochLine, "on_train_epoch_start", cut)
    runs = 0
    while True:
        runs += 1
        try:
            train(words, directory)
        except CutError:
            assert not (directory / results.RESULT).exists()
            continue
        return runs


@runs
def test_cut_at_every_epoch_boundary_it_ends_with_the_same_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    forget_stages()
    train(words, tmp_path / "alone")
    forget_stages()
    stages = 2 if "stage=two_stage" in words else 1
    assert interrupted(monkeypatch, words, tmp_path / "cut") == stages * EPOCHS + 1
    assert digits(tmp_path / "cut") == digits(tmp_path / "alone")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {
        "result.json",
        "predictions.parquet",
        "embeddings.npz",
        "best.ckpt",
        "logs",
    }


def test_cut_between_training_and_test_it_is_only_tested(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = RUNS["fine-tuning"]
    train(words, tmp_path / "alone")

    def fail(*_: Any) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(train_and_test, "finish", fail)
        with pytest.raises(CutError):
            train(words, tmp_path / "cut")
    trained: list[int] = []
    monkeypatch.setattr(EpochLine, "on_train_epoch_start", lambda *_: trained.append(1))
    train(words, tmp_path / "cut")
    assert not trained
    assert digits(tmp_path / "cut") == digits(tmp_path / "alone")


def test_what_an_interrupted_fit_logged_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = RUNS["fine-tuning"]
    interrupted(monkeypatch, words, tmp_path)
    epochs: list[str] = []
    for path in (tmp_path / "logs/fine_tuning").glob("metrics*.csv"):
        with path.open() as stream:
            epochs += [line["epoch"] for line in csv.DictReader(stream) if line["minival/macro_recall"]]
    assert sorted(epochs) == [str(epoch) for epoch in range(EPOCHS)]


def test_a_trial_cut_before_its_score_is_written_keeps_what_it_goes_on_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def trial(directory: Path) -> float:
        train_and_test.train(config(RUNS["fine-tuning"]), directory, directory, trial=True)
        return float(json.loads((directory / results.TRIAL).read_text())["minival_macro_recall"])

    def fail(*_: Any) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(train_and_test, "write_atomic", fail)
        with pytest.raises(CutError):
            trial(tmp_path / "cut")
    assert trial(tmp_path / "cut") == trial(tmp_path / "alone")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {results.TRIAL, "logs"}


def test_a_run_killed_when_its_result_was_written_is_complete_and_tidied(tmp_path: Path) -> None:
    words = RUNS["fine-tuning"]
    train(words, tmp_path)
    (tmp_path / LAST).write_text("left over")
    train(words, tmp_path)
    assert not (tmp_path / LAST).exists()


def test_another_runs_half_trained_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = RUNS["fine-tuning"]
    with monkeypatch.context() as patch:
        patch.setattr(train_and_test, "finish", lambda *_: (_ for _ in ()).throw(CutError()))
        with pytest.raises(CutError):
            train(words, tmp_path)
    before = (tmp_path / LAST).read_bytes()
    other = [*SMALL, *words, f"stage.epochs={EPOCHS}", "loss.weight=0.3"]
    assert run_main(["--directory", str(tmp_path), *other]) == 2
    assert "holds another run, half trained" in capsys.readouterr().err
    assert (tmp_path / LAST).read_bytes() == before


def test_killed_in_the_middle_of_epochs_it_ends_with_the_same_digits(tmp_path: Path) -> None:
    words = [*SMALL, "stage=two_stage", "loss=cluster", "class_weights=min_over_count", "stage.epochs=3"]
    plain = compose(words)
    forget_stages()
    train_and_test.train(plain, tmp_path / "alone", tmp_path)
    forget_stages()
    chance = random.Random(0)
    for sign in ("feature_extraction: epoch 1 of 3", "fine_tuning: epoch 1 of 3", "fine_tuning: epoch 2 of 3"):
        process = start(words, tmp_path / "killed")
        until(process, sign)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = rest(start(words, tmp_path / "killed"))
    assert "fine_tuning: goes on from" in said
    assert "fine_tuning: epoch 1 of 3" not in said
    assert digits(tmp_path / "killed") == digits(tmp_path / "alone")


def stopped_by_a_limit(directory: Path, size: int, *words: str) -> None:
    """Train a run that may write no more than so many bytes to one file, and see it stopped in one line."""
    setup = [*SMALL, *RUNS["fine-tuning"], "class_weights=min_over_count", f"stage.epochs={EPOCHS}", *words]
    command = [sys.executable, "-m", "fer_lightning.run", "--directory", str(directory), *setup]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 74, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("fer: [Errno 27] File too large")
    assert line.endswith("free some space and run the same again")
    assert {path.name for path in directory.iterdir()} <= {"logs", ".lock"}


def test_a_full_disk_stops_a_run_that_then_goes_on(tmp_path: Path) -> None:
    train(RUNS["fine-tuning"], tmp_path / "alone")
    half = (tmp_path / "alone" / results.CHECKPOINT).stat().st_size // 2
    stopped_by_a_limit(tmp_path / "ranks", half, "trainer=ddp_cpu")
    stopped_by_a_limit(tmp_path / "full", half)
    train(RUNS["fine-tuning"], tmp_path / "full")
    assert digits(tmp_path / "full") == digits(tmp_path / "alone")


def test_a_fit_that_ends_before_its_first_epoch_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, *RUNS["fine-tuning"], "trainer.max_steps=1"]
    assert run_main(["--directory", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "fer: trainer.max_steps=1: fine_tuning ended before an epoch did; raise it"

"""A run that is stopped and started again ends with the digits of one that was left alone, whatever it was."""

import csv
import random
import resource
import shutil
import time
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from processes import HANGING
from pytorch_lightning import LightningModule, Trainer
from runs import SMALL, Started, result, scores, weights

from fer_lightning.config.compose import compose
from fer_lightning.evaluation import results
from fer_lightning.run import train_and_test
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.run.check_config import check
from fer_lightning.training.callbacks.epoch_log import EpochLine, SpeedMonitor
from fer_lightning.training.trainer import LAST

EPOCHS = 2
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
    "activations": [
        "stage=fine_tuning",
        "stage.fine_tuning.cached=true",
        "stage.fine_tuning.views=2",
        "loss=center",
    ],
    "bf16, accumulated": ["stage=fine_tuning", "trainer.precision=bf16-mixed", "trainer.accumulate=2"],
}
runs = pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)


class CutError(Exception):
    """What stops a run in these tests."""


def cut(*_: Any, **__: Any) -> None:
    raise CutError


def setup(words: list[str], epochs: int = EPOCHS) -> list[str]:
    return [*SMALL, "class_weights=min_over_count", *words, f"stage.epochs={epochs}"]


@cache
def config(*words: str) -> dict[str, Any]:
    made = compose(words)
    check(made)
    return made


def train(words: list[str], directory: Path, *, epochs: int = EPOCHS, trial: bool = False) -> None:
    train_and_test.train(deepcopy(config(*setup(words, epochs))), directory, directory, trial=trial)


def digits(directory: Path) -> dict[str, Any]:
    """All numbers of a result that training decides, and the weights that were kept."""
    stages = [
        {key: value for key, value in stage.items() if key not in ("seconds", "shared")}
        for stage in result(directory)["stages"]
    ]
    for epoch in (epoch for stage in stages for epoch in stage["history"]):
        for name in ("images_per_second", "waiting_share"):
            del epoch[name]
    kept = {name: value.tolist() for name, value in weights(directory).items()}
    return {"stages": stages, "weights": kept, **scores(directory)}


def train_in_pieces(words: list[str], directory: Path, epochs: int = EPOCHS) -> int:
    """Train in as many runs as it takes, each cut where an epoch begins that none began before. Returns them."""
    seen: set[tuple[str, int]] = set()

    def cut_once(self: EpochLine, trainer: Trainer, pl_module: LightningModule) -> None:
        place = (str(trainer.checkpoint_callbacks[-1].dirpath), trainer.current_epoch)  # type: ignore[attr-defined]
        if place not in seen:
            seen.add(place)
            raise CutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLine, "on_train_epoch_start", cut_once)
        runs = 0
        while True:
            runs += 1
            try:
                train(words, directory, epochs=epochs)
            except CutError:
                assert not (directory / results.RESULT).exists()
                continue
            return runs


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fine-tuning that nobody stopped."""
    directory = tmp_path_factory.mktemp("runs") / "alone"
    train(RUNS["fine-tuning"], directory)
    return directory


def train_until(what: str, directory: Path, module: ModuleType = train_and_test, *, trial: bool = False) -> None:
    """The same, cut where a function of a module is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, what, cut)
        with pytest.raises(CutError):
            train(RUNS["fine-tuning"], directory, trial=trial)


@runs
def test_cut_at_every_epoch_boundary_it_ends_with_the_same_digits(
    no_stages: Path, tmp_path: Path, words: list[str]
) -> None:
    train(words, tmp_path / "alone")
    shutil.rmtree(no_stages / "stages", ignore_errors=True)
    stages = 2 if "stage=two_stage" in words else 1
    assert train_in_pieces(words, tmp_path / "cut") == stages * EPOCHS + 1
    assert digits(tmp_path / "cut") == digits(tmp_path / "alone")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {
        "result.json",
        "predictions.parquet",
        "embeddings.npz",
        "best.ckpt",
        "logs",
    }
    assert epochs_logged(tmp_path / "cut") == [*range(EPOCHS)]


def epochs_logged(directory: Path) -> list[int]:
    """The epochs of the last stage whose minival scores its logger has kept, those of earlier processes, too."""
    epochs: list[str] = []
    (folder,) = [path for path in (directory / "logs").iterdir() if path.name != "feature_extraction"] or [
        directory / "logs/feature_extraction"
    ]
    for path in folder.glob("metrics*.csv"):
        with path.open() as stream:
            epochs += [line["epoch"] for line in csv.DictReader(stream) if line["minival/macro_recall"]]
    return sorted(map(int, epochs))


def test_epochs_of_few_steps_are_told_the_same_after_a_cut(tmp_path: Path) -> None:
    words = ["stage=feature_extraction"]  # seven steps an epoch
    train(words, tmp_path / "alone", epochs=4)
    assert train_in_pieces(words, tmp_path / "cut", epochs=4) == 5
    assert digits(tmp_path / "cut") == digits(tmp_path / "alone")


def test_cut_between_training_and_test_it_is_only_tested(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alone: Path
) -> None:
    train_until("finish", tmp_path)
    trained: list[int] = []
    monkeypatch.setattr(EpochLine, "on_train_epoch_start", lambda *_: trained.append(1))
    train(RUNS["fine-tuning"], tmp_path)
    assert not trained
    assert digits(tmp_path) == digits(alone)


def test_the_seconds_of_a_run_are_those_of_all_its_processes(
    no_stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]  # an hour passes as an epoch begins, a minute as a run ends or is cut
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    begin_epoch = SpeedMonitor.on_train_epoch_start

    def hour(self: SpeedMonitor, trainer: Trainer, pl_module: LightningModule) -> None:
        begin_epoch(self, trainer, pl_module)
        now[0] += 3600

    monkeypatch.setattr(SpeedMonitor, "on_train_epoch_start", hour)
    runs = train_in_pieces(RUNS["two stages"], tmp_path)
    assert runs == 2 * EPOCHS + 1
    told = result(tmp_path)
    assert [stage["seconds"] for stage in told["stages"]] == [EPOCHS * 3600.0] * 2
    assert told["seconds"] == 2 * EPOCHS * 3600.0

    other = tmp_path / "other"  # which shares the first stage, and has not trained it
    train([*RUNS["two stages"], "loss.weight=0.3"], other)
    assert [stage["seconds"] for stage in result(other)["stages"]] == [EPOCHS * 3600.0] * 2
    assert result(other)["seconds"] == EPOCHS * 3600.0


def test_the_seconds_of_a_killed_run_are_kept_with_each_epoch(tmp_path: Path) -> None:
    train_until("finish", tmp_path)
    (kept,) = tmp_path.glob(".seconds")
    kept.write_text("86400.0\n")
    train(RUNS["fine-tuning"], tmp_path)
    assert 86400 < result(tmp_path)["seconds"] < 2 * 86400
    assert not kept.exists()


def test_a_trial_cut_before_its_score_is_written_keeps_what_it_goes_on_from(tmp_path: Path, alone: Path) -> None:
    train_until("write_trial", tmp_path, results, trial=True)
    train(RUNS["fine-tuning"], tmp_path, trial=True)
    told = results.read_trial(tmp_path)
    assert told is not None
    assert told.minival_macro_recall == result(alone)["stages"][-1]["minival_macro_recall"]
    assert {path.name for path in tmp_path.iterdir()} == {results.TRIAL, "logs"}


def test_a_run_killed_when_its_result_was_written_is_complete_and_tidied(tmp_path: Path, alone: Path) -> None:
    directory = shutil.copytree(alone, tmp_path / "killed")
    (directory / LAST).write_text("left over")
    train(RUNS["fine-tuning"], directory)
    assert not (directory / LAST).exists()
    assert digits(directory) == digits(alone)


def test_another_runs_half_trained_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_until("finish", tmp_path)
    before = (tmp_path / LAST).read_bytes()
    other = [*setup(RUNS["fine-tuning"]), "loss.weight=0.3"]
    assert run_main(["--directory", str(tmp_path), *other]) == 2
    assert "holds another run, half trained" in capsys.readouterr().err
    assert (tmp_path / LAST).read_bytes() == before


def test_killed_in_the_middle_of_epochs_it_ends_with_the_same_digits(no_stages: Path, tmp_path: Path) -> None:
    words, epochs = ["stage=two_stage", "loss=cluster", "data.batch_size=8"], 4
    train(words, tmp_path / "alone", epochs=epochs)
    shutil.rmtree(no_stages / "stages")
    chance = random.Random(0)
    # the state after an epoch is on disk where the next one has ended
    for ended in ("feature_extraction: epoch 2", "fine_tuning: epoch 2"):
        run = Started(setup(words, epochs), tmp_path / "killed")
        run.until(f"{ended} of {epochs}")
        time.sleep(chance.uniform(0, 0.2))
        run.kill()
    said = Started(setup(words, epochs), tmp_path / "killed").rest()
    assert "fine_tuning: continues from" in said
    assert f"fine_tuning: epoch 1 of {epochs}" not in said
    assert digits(tmp_path / "killed") == digits(tmp_path / "alone")


def stopped_by_a_limit(directory: Path, size: int, *words: str) -> None:
    """Train a run that may write no more than so many bytes to one file, and see it stopped in one line."""
    run = Started([*setup(RUNS["fine-tuning"]), *words], directory)
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (size, size))
    assert run.process.wait(HANGING) == 74, run.said()
    (line,) = [line for line in run.said().splitlines() if line.startswith("fer: ")]
    assert line.startswith("fer: [Errno 27] File too large")
    assert line.endswith("free some space and run the same again")
    assert "Traceback" not in run.said()
    assert {path.name for path in directory.iterdir()} <= {"logs", ".lock"}


def test_a_full_disk_stops_a_run_that_then_goes_on(tmp_path: Path, alone: Path) -> None:
    half = (alone / results.CHECKPOINT).stat().st_size // 2
    stopped_by_a_limit(tmp_path / "ranks", half, "trainer=ddp_cpu")
    stopped_by_a_limit(tmp_path / "full", half)
    train(RUNS["fine-tuning"], tmp_path / "full")
    assert digits(tmp_path / "full") == digits(alone)


def test_a_stage_that_ends_before_its_first_epoch_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, *RUNS["fine-tuning"], "trainer.max_steps=1"]
    assert run_main(["--directory", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "fer: trainer.max_steps=1: fine_tuning ended before its first epoch; raise it"

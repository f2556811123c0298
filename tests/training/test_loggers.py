"""Loggers: a run is one run over all stages, whatever it is logged to, and never fails because of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import SMALL, result

from fer_lightning.evaluation.results import TrialResult
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.training.loggers import run_figures, run_summary
from fer_lightning.training.loggers.run_logger import OnBoard, TensorBoard
from fer_lightning.training.loggers.run_summary import About

ABOUT = About("0123", "cluster-none-s0", "t-0123", "fine_tuning", (), {"choices": {"loss": "cluster"}, "seed": 0})


@pytest.mark.parametrize(("logger", "files", "count"), [("csv", "logs/*/metrics.csv", 2), ("none", "logs", 0)])
def test_csv_is_a_file_a_stage_and_none_is_nothing(logger: str, files: str, count: int, tmp_path: Path) -> None:
    # a seed of its own: a shared first stage would be logged by the first run only
    words = [*SMALL, "stage.epochs=1", f"seed={40 + ['csv', 'none'].index(logger)}", f"logger={logger}"]
    assert run_main(["--directory", str(tmp_path / "run"), *words]) == 0
    assert len(list((tmp_path / "run").glob(files))) == count


def test_tensorboard_has_one_axis_of_epochs_with_pictures_and_the_result(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [*SMALL, "stage.epochs=2", "seed=42", "loss=cluster", "logger=tensorboard"]
    assert run_main(["--directory", str(tmp_path / "run"), *words]) == 0
    told = result(tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "logs")).Reload()
    first, second = told["stages"]
    for name in ("minival/macro_recall", "train/loss"):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        values = [epoch[name] for stage in (first, second) for epoch in stage["history"]]
        assert shown == [(step, pytest.approx(value)) for step, value in enumerate(values)]
    assert [event.step for event in events.Scalars("train/center_term")] == [*range(2, 2 + second["epochs"])]
    assert {"test/confusion", "test/class_recall", "test/embeddings"} <= set(events.Tags()["images"])
    assert events.Scalars("result/test/macro_recall")[0].value == pytest.approx(told["metrics"]["macro_recall"])


class Listed:
    """A board that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.end: tuple[int, dict[str, float], dict[str, Any]] | None = None

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        self.rows.append((epoch, dict(values)))

    def finish(self, epoch: int, summary: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        self.end = epoch, dict(summary), dict(pictures)


def stages(*lengths: int, of: int = 3) -> list[dict[str, Any]]:
    """Stages of ``of`` epochs each, of which so many are done."""
    done = [
        {"epochs": of, "history": [{"train/loss": 10.0 * k + e} for e in range(n)]} for k, n in enumerate(lengths)
    ]
    return [{"name": "a", "minival_macro_recall": 0.5, "best_epoch": 0, "seconds": 1.0, **stage} for stage in done]


def trial(stages: list[dict[str, Any]]) -> TrialResult:
    """The result of a trial that went through these stages."""
    content = {"minival_macro_recall": 0.5, "stages": stages, "config": {}, "seconds": 1.0}
    return TrialResult.model_validate(content)


def test_an_epoch_is_shown_once_and_those_before_with_it(tmp_path: Path) -> None:
    board = Listed()
    logger = OnBoard(tmp_path, lambda: board)
    assert logger.of("feature_extraction") is False
    logger.epochs(stages(3, 2))  # a shared stage, and an epoch from before an interruption
    logger.epochs(stages(3, 3))
    logger.of("fine_tuning")
    logger.finish(trial(stages(3, 3)))
    assert [epoch for epoch, _ in board.rows] == [0, 1, 2, 3, 4, 5]
    assert [values["train/loss"] for _, values in board.rows] == [0, 1, 2, 10, 11, 12]
    assert board.end is not None
    assert board.end[0] == 5
    assert board.end[1]["minival/macro_recall"] == 0.5
    assert board.end[2] == {}  # a trial has no test to show


def test_only_the_first_rank_begins_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    logger = OnBoard(tmp_path, lambda: pytest.fail("a run was begun"))
    assert logger.of("fine_tuning") is False
    logger.epochs(stages(1))


@pytest.mark.parametrize("fails", ["start", "scalars", "finish"])
def test_a_failing_logger_is_told_once_and_harms_nothing(
    fails: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board: Any = Listed()

    def fail(*_: Any) -> Any:
        raise RuntimeError("no\nroute")

    if fails != "start":
        setattr(board, fails, fail)
    logger = OnBoard(tmp_path, fail if fails == "start" else lambda: board)
    with caplog.at_level(logging.WARNING, logger="fer_lightning"):
        logger.of("fine_tuning")
        logger.epochs(stages(1))
        logger.epochs(stages(2))
        logger.finish(trial(stages(3)))
    assert [record.getMessage() for record in caplog.records] == [
        "notice: the logger failed, the run goes on without: RuntimeError: no route"
    ]


def test_what_an_interrupted_process_showed_on_tensorboard_goes(tmp_path: Path) -> None:
    TensorBoard(tmp_path, ABOUT).scalars(0, {"train/loss": 1.0})
    (earlier,) = tmp_path.glob("events*")
    TensorBoard(tmp_path, ABOUT).scalars(0, {"train/loss": 1.0})
    assert not earlier.exists()


def test_the_optimism_is_the_tests_best_epoch_above_the_chosen_one() -> None:
    history = [{"test/macro_recall": value} for value in (0.3, 0.5, 0.4)]
    stage = {**stages(3)[0], "history": history, "best_epoch": 2}
    assert run_summary.summary(trial([stage]))["optimism"] == pytest.approx(0.1)
    del history[1]["test/macro_recall"]
    assert "optimism" not in run_summary.summary(trial([stage]))


def test_what_is_no_number_is_not_shown() -> None:
    told = {"epochs": 1, "history": [{"train/loss": float("nan"), "lr/head": 0.1, "grad_norm/head": None}]}
    assert list(run_summary.epochs([told])) == [(0, {"lr/head": 0.1})]


def test_a_recall_of_no_images_is_said() -> None:
    figure = run_figures.class_recall({"happy": 0.5, "fear": float("nan"), "sad": 0.25})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["50.0", "no images", "25.0"]
    assert axes.get_xlabel().endswith("macro recall, 37.5")


def test_a_confusion_matrix_is_in_percent_of_its_rows() -> None:
    (axes,) = run_figures.confusion([[3, 1], [0, 0]], ["happy", "fear"]).axes
    assert [text.get_text() for text in axes.texts] == ["75", "25", "0", "0"]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_embeddings_are_seen_where_class_means_differ(missing: int) -> None:
    """Classes that differ in two of many directions, of which the picture must be."""
    draw = np.random.default_rng(0)
    means = np.zeros((3, 50))
    means[:, 7], means[:, 30] = (5, -5, 0), (0, 1, 4)
    labels = np.repeat(np.arange(3 - missing), 20)
    vectors = (means[labels] + draw.standard_normal((len(labels), 50))).astype(np.float16)
    means[3 - missing :] = np.nan
    figure = run_figures.embeddings(vectors, labels, ["a", "b", "c"], means, np.nan_to_num(means))
    (axes,) = figure.axes
    dots = [np.asarray(group.get_offsets()) for group in axes.collections]
    assert sum(len(one) for one in dots) == len(labels) + 3
    if not missing:
        points = np.stack([one.mean(0) for one in dots[::2]])
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        assert np.allclose(apart, np.linalg.norm(means[:, None] - means[None], axis=2), atol=1)
    assert run_figures.pixels(figure).shape[2] == 3

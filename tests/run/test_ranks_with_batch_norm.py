"""Ranks whose BatchNorm sees other pictures validate one network, which is the one that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import SMALL, Started, result, weights

from fer_lightning.config.compose import compose
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import macro_recall
from fer_lightning.inference.load_model import load_model
from fer_lightning.run.final_test import see
from fer_lightning.run.set_up import set_up

RUN = [
    *(*SMALL, "stage=fine_tuning", "stage.epochs=3", "stage.fine_tuning.freeze=none", "optimizer.lr=0.003"),
    *("data.minival=0.4", "loss=softmax", "class_weights=none", "trainer=ddp_cpu"),
    "optimizer.ema_decay=0.9",  # whose buffers, too, are a rank's own
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two ranks."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    Started(RUN, folder).rest()
    return folder


def history(run: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The only stage of a run, and what each of its epochs scored."""
    (stage,) = result(run)["stages"]
    scores = [
        {key: value for key, value in epoch.items() if key.startswith(("minival/", "test/"))}
        for epoch in stage["history"]
    ]
    return stage, scores


def test_the_score_is_that_of_the_checkpoint_in_one_process(run: Path) -> None:
    setup = set_up(compose(RUN))
    setup.shared_weights = None  # the backbone was trained
    network = load_model(run / results.CHECKPOINT).network
    seen, labels = see(network, setup, "minival"), torch.from_numpy(setup.data.labels("minival"))
    counts = np.zeros((8, 8), np.int64)
    np.add.at(counts, (labels.numpy(), seen.logits.argmax(1).numpy()), 1)
    stage, epochs = history(run)
    assert stage["minival_macro_recall"] == float(macro_recall(counts))
    loss = torch.nn.functional.cross_entropy(seen.logits, labels)
    assert epochs[stage["best_epoch"]]["minival/loss"] == pytest.approx(float(loss), rel=1e-5)
    assert epochs[stage["best_epoch"]]["test/macro_recall"] == result(run)["metrics"]["macro_recall"]


def test_an_interrupted_run_goes_on_to_the_same_digits(run: Path) -> None:
    folder = run.with_name("killed")
    interrupted = Started(RUN, folder)
    interrupted.until("epoch 2 of 3")
    interrupted.kill()
    assert "continues from" in Started(RUN, folder).rest()
    assert history(folder)[1] == history(run)[1]
    kept = weights(folder)
    assert all(torch.equal(value, kept[name]) for name, value in weights(run).items())

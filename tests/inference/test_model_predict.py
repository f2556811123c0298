"""A run's own test pictures, predicted by its model from their files and boxes, as its test has predicted them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from runs import SMALL, fer, result

from fer_lightning import load_model
from fer_lightning.data import dataset
from fer_lightning.data.store.crop import Box
from fer_lightning.inference.checkpoint import SEAL, VERSION, weights_hash
from fer_lightning.inference.exported import save_safetensors
from fer_lightning.inference.model import Model

FRAMED = ["data.size=40", "data.crop=32", "data.margin=0.3", "data.codec=jpeg", "data.flip_averaging=true"]


class Trained(NamedTuple):
    """The folder of a run, and its test pictures: their files, boxes and rows of the predictions."""

    folder: Path
    pictures: list[Path]
    boxes: list[Box]
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained") / "run"
    learning = [
        "optimizer.lr=0.01",
        "stage.epochs=1",
        "stage.fine_tuning.epochs=4",
        "class_weights=min_over_count",
    ]
    done = fer("train", *SMALL, *FRAMED, *learning, "seed=3", f"hydra.run.dir={folder}")
    assert done.code == 0, done.out + done.err
    faces = dataset.manifest(result(folder)["config"])
    known = {row["id"]: row for row in faces.rows.to_pylist()}
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    shown = [known[row["id"]] for row in rows]
    boxes = [(row["x"], row["y"], row["width"], row["height"]) for row in shown]
    return Trained(folder, [faces.root / row["path"] for row in shown], boxes, rows)


@pytest.fixture(scope="module", params=["checkpoint", "export"])
def model(request: pytest.FixtureRequest, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Model:
    loaded = load_model(trained.folder)
    if request.param == "checkpoint":
        return loaded
    folder = tmp_path_factory.mktemp("exported")
    save_safetensors(loaded, folder)
    return load_model(folder)


@pytest.mark.parametrize("batch_size", [1, 7, 33])
def test_the_test_pictures_are_predicted_as_in_the_test(model: Model, trained: Trained, batch_size: int) -> None:
    found = model.predict(trained.pictures, trained.boxes, batch_size=batch_size)
    assert len(found) == len(trained.rows) == 24
    assert len({row.label for row in found}) > 1, "too few emotions for a test to notice a mistake"
    assert np.std([row.probability for row in found]) > 0.01
    for prediction, row in zip(found, trained.rows, strict=True):
        expected = {name: row[f"p_{name}"] for name in model.classes}
        assert prediction.label == row["prediction"]
        assert prediction.probabilities == pytest.approx(expected, abs=1e-6)


def test_corrected_as_in_the_test(model: Model, trained: Trained) -> None:
    told = result(trained.folder)["posthoc"]
    assert [*model.corrections] == [*told] == ["logit_adjustment", "tau_norm", "temperature"]
    for name, fitted in model.corrections.items():
        assert fitted.items() <= told[name].items()
        found = model.predict(trained.pictures, trained.boxes, correct=name)
        assert [row.label for row in found] == [row[f"prediction_{name}"] for row in trained.rows]


def test_the_framing_is_that_of_the_run(model: Model, trained: Trained) -> None:
    framing = {"faces": "boxes", "margin": 0.3, "size": 40, "codec": "jpeg", "crop": 32}
    assert model.framing.model_dump() == model.card["framing"] == framing
    assert model.flip_averaging
    assert "framing" not in result(trained.folder)["protocol"]  # which is part of a run's identity


def test_the_hash_in_the_checkpoint_is_that_of_its_weights(trained: Trained) -> None:
    model = load_model(trained.folder / "best.ckpt")
    sealed = torch.load(trained.folder / "best.ckpt", weights_only=True)[SEAL]
    assert sealed == {"version": VERSION, "weights": weights_hash(model.network.state_dict())}


def test_without_the_codec_the_numbers_would_be_others(trained: Trained) -> None:
    model = load_model(trained.folder)
    model.framing = model.framing.model_copy(update={"codec": "png"})
    found = model.predict(trained.pictures, trained.boxes)
    differences = [
        abs(prediction.probabilities[name] - row[f"p_{name}"])
        for prediction, row in zip(found, trained.rows, strict=True)
        for name in model.classes
    ]
    assert max(differences) > 1e-4

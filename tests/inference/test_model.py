"""A loaded model: strict about crops, always in eval mode, safe in threads, the same in every batch."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_files import face
from PIL import Image
from tiny_models import NAMES, OWN, SIDE, card, crops, files, write

from fer_lightning import load_model
from fer_lightning.core.errors import UserError
from fer_lightning.inference.model import Model, Prediction


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "flip averaging"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    protocol = {**card()["protocol"], "flip_averaging": request.param}
    folder = tmp_path_factory.mktemp("model")
    return write(folder / "best.ckpt", **{files.CARD: card(protocol=protocol)})


@pytest.fixture
def model(path: Path) -> Model:
    return load_model(path, OWN)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (crops(1)[0], r"must be \(N, 3, 12, 12\), not \(3, 12, 12\)"),
        (crops(1)[:, :1], r"not \(1, 1, 12, 12\)"),
        (crops(1)[:, :, 1:], r"not \(1, 3, 11, 12\)"),
        (crops(1).permute(0, 2, 3, 1), r"not \(1, 12, 12, 3\)"),
        (crops(1)[None], r"not \(1, 1, 3, 12, 12\)"),
        (torch.zeros((), dtype=torch.uint8), r"not \(\)"),
        (crops(1) / 255, "must be uint8 .* not float32"),
        (crops(1).long(), "must be uint8 .* not int64"),
        (crops(1).numpy(), "must be a uint8 tensor .* not ndarray"),
        (Image.new("RGB", (SIDE, SIDE)), "must be a uint8 tensor .* not Image"),
        ([crops(1)], "must be a uint8 tensor .* not list"),
        ("face.png", "must be a uint8 tensor .* not str; .* there is model.predict"),
    ],
)
def test_what_is_no_batch_of_crops_is_refused_in_one_line(model: Model, wrong: Any, said: str) -> None:
    for compute in (model, model.logits):
        with pytest.raises(UserError, match=f"^crops: .*{said}"):
            compute(wrong)


def test_it_stays_in_eval_mode_and_its_outputs_can_be_used(model: Model) -> None:
    expected = model(crops(9))
    assert model.train() is model
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(crops(9)), expected)
    assert not expected.requires_grad
    (expected * torch.ones(3, requires_grad=True)).sum().backward()  # refused for tensors of inference mode
    expected += 1


def test_every_batch_gives_the_same_rows(model: Model) -> None:
    everything = crops(33)
    whole = model(everything)
    assert whole.shape == (33, 3)
    assert torch.allclose(whole.sum(1), torch.ones(33))
    assert (whole.argmax(1).bincount(minlength=3) > 0).sum() > 1
    for size in (1, 7):
        parts = torch.cat([model(part) for part in everything.split(size)])
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
    assert model(everything[:0]).shape == (0, 3)
    other = model(everything.to(memory_format=torch.channels_last))
    torch.testing.assert_close(other, whole, rtol=0, atol=1e-6)


def test_threads_get_the_same_numbers(model: Model) -> None:
    pictures = [face(seed) for seed in range(8)]
    expected = [model.predict(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: model.predict(pictures, batch_size=1), range(16)):
            assert found == expected


def test_it_moves_between_devices_and_types(model: Model) -> None:
    expected = model(crops(5))
    double = deepcopy(model).double()
    assert double(crops(5)).dtype == torch.float64
    torch.testing.assert_close(double(crops(5)).float(), expected, rtol=0, atol=1e-6)
    half = deepcopy(model).to(torch.bfloat16)
    assert half(crops(5)).dtype == torch.float32
    torch.testing.assert_close(half(crops(5)), expected, rtol=0, atol=0.2)
    meta = deepcopy(model).to("meta")
    assert meta(crops(5)).shape == (5, 3)
    with pytest.raises(UserError, match="on the meta device"):
        meta.predict(face(0))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers(model: Model) -> None:
    expected, rows = model(crops(33)), model.predict([face(0), face(1)])
    model.to("cuda")
    torch.testing.assert_close(model(crops(33)).cpu(), expected, rtol=0, atol=1e-4)
    for row, other in zip(model.predict([face(0), face(1)]), rows, strict=True):
        assert row.probability == pytest.approx(other.probability, abs=1e-4)


def test_one_picture_has_a_prediction_and_many_have_a_list(model: Model) -> None:
    row = model.predict(face(3))
    assert isinstance(row, Prediction)
    assert [*row.probabilities] == NAMES
    assert row.probability == max(row.probabilities.values()) == row.probabilities[row.label]
    assert sum(row.probabilities.values()) == pytest.approx(1)
    assert model.predict([face(3)]) == [row]
    assert model.predict([]) == []
    assert model.predict(np.stack([face(3), face(4)]), batch_size=1)[0] == row
    boxed = model.predict([face(3), face(4)], crop=[(5, 5, 20, 20), None], batch_size=1)
    assert boxed == [model.predict(face(3), (5, 5, 20, 20)), model.predict(face(4))]
    assert boxed[0] != row
    with pytest.raises(UserError, match="batch_size=0"):
        model.predict(face(3), batch_size=0)
    with pytest.raises(UserError, match=r"^picture 2 of 2: "):
        model.predict([face(3), face(3) / 255])


def test_corrections_are_applied_when_asked_for(model: Model) -> None:
    logits = model.logits(crops(6)).double()
    prior = torch.tensor([30, 20, 10]).double() / 60
    head = model.network.head.classifier
    norms = head.weight.norm(dim=1).double()
    expected = {
        "logit_adjustment": logits - 1.5 * prior.log(),
        "tau_norm": (logits - head.bias.double()) / norms**0.5,
        "temperature": logits / 2,
    }
    assert [*model.corrections] == [*expected]
    for name, corrected in expected.items():
        found = model.correct(logits, name).softmax(1)
        torch.testing.assert_close(found, corrected.softmax(1), rtol=0, atol=1e-6)
    plain = model.logits(model.prepare(face(0))[None]).double()
    row = model.predict(face(0), correct="temperature")
    assert [*row.probabilities.values()] == pytest.approx((plain / 2).softmax(1)[0].tolist(), abs=1e-6)


def test_a_correction_that_is_not_there_is_refused_in_one_line(model: Model, path: Path) -> None:
    with pytest.raises(UserError, match=r"correct='temperatur': .*did you mean temperature"):
        model.predict(face(0), correct="temperatur")
    for there, said in (
        ({}, "it has none"),
        ({"of_tomorrow": {"x": 1.0}}, "no correction of this model"),
        ({"of_tomorrow": {}, "temperature": {}}, "correct='temperature': KeyError"),
    ):
        files.keep_corrections(path, there)
        with pytest.raises(UserError, match=said):
            load_model(path, OWN).predict(face(0), correct=[*there, "tau_norm"][-1 if len(there) < 2 else 1])


LOADED = {
    "",
    "core",
    "core.contracts",
    "core.errors",
    "core.files",
    "core.ranges",
    "data",
    "data.store",
    "data.store.crop",
    "data.transforms",
    "evaluation",
    "evaluation.posthoc",
    "evaluation.results",
    "inference",
    "inference.build_network",
    "inference.card",
    "inference.checkpoint",
    "inference.exported",
    "inference.load_model",
    "inference.model",
    "inference.pictures",
    "losses",
    "losses.softmax",
    "models",
}
"""Modules of this package that a prediction from a checkpoint imports, besides those below models."""

NOT_LOADED = {
    "hydra",
    "omegaconf",
    "pytorch_lightning",
    "lightning",
    "tensorboard",
    "torchmetrics",
    "albumentations",
    "pyarrow",
    "scipy",
    "sklearn",
    "matplotlib",
    "pandas",
}
"""Packages that it does not import; timm imports wandb where that is installed."""

PREDICT = """
import sys
sys.path.insert(0, {tests!r})
import tiny_models, numpy
from fer_lightning import load_model
load_model({path!r}, tiny_models.OWN).predict(numpy.zeros((9, 9, 3), numpy.uint8), correct="temperature")
print(*sys.modules)
"""


def test_a_prediction_imports_little(tmp_path: Path) -> None:
    code = PREDICT.format(tests=str(Path(__file__).parent), path=str(write(tmp_path / "best.ckpt")))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert sorted({name.partition(".")[0] for name in names} & NOT_LOADED) == []
    ours = {name.partition(".")[2] for name in names if name.partition(".")[0] == "fer_lightning"}
    assert {name for name in ours if not name.startswith("models.")} == LOADED

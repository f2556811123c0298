"""The folder of an exported model: what its files compute and say, and what is refused and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tiny_models import NAMES, OWN, SIDE, Net, card, crops, same, write
from torch import Tensor

from fer_lightning import load_model
from fer_lightning.core.errors import UserError
from fer_lightning.inference import checkpoint as files
from fer_lightning.inference import export as exporting
from fer_lightning.inference import onnx_file, use
from fer_lightning.inference.export import FILES, export
from fer_lightning.inference.model import Model


class Branching(Net):
    """Looks at the values of its pictures to decide what to do, which no graph of operators does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if bool((images > 128).any()) else 255 - images)


def model_of(folder: Path, **other: Any) -> Model:
    own = {**OWN, "own.Branching": Branching}
    return load_model(write(folder / "best.ckpt", **{files.CARD: card(**other)}), own)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return model_of(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "exported"
    mirrored = {"protocol": {**card()["protocol"], "flip_averaging": True}}
    export(model_of(folder.parent, **mirrored), folder, correct="logit_adjustment")
    return folder


@pytest.fixture(scope="module")
def session(exported: Path) -> Any:
    return use.open_model(exported / "model.onnx")


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("batch", [1, 7, 33])
def test_the_onnx_file_predicts_as_the_corrected_model(exported: Path, session: Any, batch: int) -> None:
    model = load_model(exported, OWN)
    pictures = crops(batch)
    rows = model.predict([picture.numpy().transpose(1, 2, 0) for picture in _framed(pictures)])
    assert [row.label for row in rows]
    expected = model.correct(model.logits(pictures).double(), "logit_adjustment")
    probabilities, logits = session.run(["probabilities", "logits"], {"crops": pictures.numpy()})
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities, expected.softmax(1), atol=1e-6)
    assert not np.allclose(probabilities, model(pictures), atol=1e-3)  # uncorrected


def _framed(pictures: Tensor) -> Tensor:
    """Pictures whose middle are these crops."""
    return torch.nn.functional.pad(pictures, (2, 2, 2, 2))


def test_the_onnx_file_says_what_others_need(exported: Path, session: Any) -> None:
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("crops", "tensor(uint8)", [3, SIDE, SIDE])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == NAMES
    assert json.loads(about["framing"]) == card()["framing"]
    assert (about["correction"], about["flip_averaging"]) == ("logit_adjustment", "true")
    assert about["weights"] == json.loads((exported / "config.json").read_text())["hashes"]["weights"]
    assert json.loads(about["versions"])["torch"]


def test_an_export_is_whole_and_can_be_loaded(exported: Path, model: Model) -> None:
    assert left(exported) == FILES
    assert left(exported.parent) == {"exported", "best.ckpt"}
    assert same(load_model(exported, OWN), model)
    parity = json.loads((exported / "parity.json").read_text())
    assert parity["batches"] == [1, 7, 33]
    assert 0 <= parity["largest_absolute_difference"]["probabilities"] <= parity["limit"] == 1e-4


def test_the_onnx_file_has_no_traces_of_the_machine(exported: Path) -> None:
    content = (exported / "model.onnx").read_bytes()
    for word in (b"site-packages", str(Path(__file__).parents[2]).encode(), str(Path.home()).encode() + b"/"):
        assert word not in content
    graph = onnx.load(exported / "model.onnx").graph
    assert not any(node.doc_string or node.metadata_props for node in graph.node)


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "fer_lightning", "cv2"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def test_the_script_labels_a_file_without_torch(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    picture = _framed(crops(1))[0].numpy().transpose(1, 2, 0)
    Image.fromarray(picture).save(tmp_path / "face.png")

    def told(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(exported / "use.py"), *words]
        variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)

    done = told("face.png")
    assert done.returncode == 0, done.stderr
    label, *rows = done.stdout.splitlines()
    expected = load_model(exported, OWN).predict(picture, correct="logit_adjustment")
    assert label == expected.label
    found = {name: float(number) for name, number in (row.split() for row in rows)}
    assert found == pytest.approx(expected.probabilities, abs=1e-4)
    for words in (["none.png"], ["face.png", "90", "90", "5", "5"], ["face.png", "a", "1", "2", "3"], []):
        done = told(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1


EXACT = [(20, 24, 8, 8), (19.6, 23.6, 8.3, 8)]
"""Boxes whose sides are 12 pixels when they have grown."""

BOXES = [*EXACT, (2, 1, 30, 12), (-3, 40, 10, 20), (11, 5, 4, 4), (0, 0, 60, 50), None]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("side", [12, 31])
def test_the_script_frames_faces_as_the_model_does(model: Model, box: Any, side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    given = {"size": side, "crop": 10}
    model.framing = model.framing.model_copy(update=given)
    found = use.prepare(Image.fromarray(noise), box, {**card()["framing"], **given}).astype(int)
    assert np.abs(found - model.prepare(noise, box).numpy()).max() <= (0 if side == 12 and box in EXACT else 1)


def test_the_script_reads_pictures_of_all_kinds_as_the_model_does(model: Model, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    pictures = {
        "rgba.png": (Image.fromarray(noise), {}),
        "grey.png": (Image.fromarray(noise[..., 0]), {}),
        "deep.png": (Image.fromarray(noise[..., :2].copy().view(np.uint16)[..., 0]), {}),
        "palette.gif": (Image.fromarray(noise[..., :3]).quantize(16), {}),
        "turned.png": (Image.fromarray(noise[..., :3]), {"exif": turned}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(tmp_path / name, **options)
        found = use.prepare(use.open_picture(str(tmp_path / name)), None, model.framing.model_dump())
        assert np.array_equal(found, model.prepare(tmp_path / name)), name


def test_the_card_is_one_of_the_hub_and_guesses_no_licence(exported: Path, model: Model, tmp_path: Path) -> None:
    told = ModelCard.load(exported / "README.md")
    assert told.data.license == "other"
    assert told.data["license_name"] == "undetermined"
    assert told.data.eval_results is None
    assert "No test of this model is known" in told.text
    for word in (
        *NAMES,
        "logit adjustment (tau = 1.5)",
        "grown by 25 %",
        "2024/1689",
        "November 2026",
        "Apache-2.0",
    ):
        assert word in told.text
    export(model, tmp_path / "exported", onnx=False, licence="cc-by-nc-4.0")
    told = ModelCard.load(tmp_path / "exported" / "README.md")
    assert told.data.license == "cc-by-nc-4.0"
    assert "cc-by-nc-4.0" in told.text
    assert "use.py" not in told.text
    assert """load_model("FOLDER", own={'own.Net': Net})""" in told.text
    assert left(tmp_path / "exported") == FILES - {"model.onnx", "use.py", "parity.json"}


def refusal(model: Model, folder: Path, **options: Any) -> str:
    """The one line with which an export is refused, which leaves everything as it was."""
    parent = next(path for path in folder.parents if path.is_dir())
    around = left(parent)
    with pytest.raises(UserError) as caught:
        export(model, folder, **options)
    assert left(parent) == around
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    branching = {"class": "own.Branching", "arguments": {"width": 4}, "source": "", "weights_hash": None}
    said = refusal(model_of(tmp_path, backbone=branching), tmp_path / "exported")
    assert said.startswith("the network cannot be exported to ONNX: ")
    assert said.endswith("; --no-onnx writes the rest")


def test_another_network_is_refused_and_the_earlier_export_stays(
    exported: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exported"
    export(model, folder, onnx=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(exporting, "write_onnx", lambda _, path, __: shutil.copy(exported / "model.onnx", path))
    assert "its probabilities differ from PyTorch's by up to 0." in refusal(
        model, folder
    )  # it is the corrected one
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_missing_package_is_named(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name == "onnxscript" else name)
    said = refusal(model, tmp_path / "exported")
    assert said == "model.onnx needs onnxscript: pip install 'fer-lightning[onnx]'; --no-onnx writes the rest"


def test_what_is_no_export_is_never_replaced(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    for _ in range(2):  # an empty folder, and an earlier export
        export(model, folder, onnx=False)
    (folder / "thesis.txt").write_text("of years")
    assert "holds thesis.txt, which is of no export" in refusal(model, folder, onnx=False)
    (folder / "thesis.txt").unlink()
    (folder / "config.json").write_text("{}")
    assert "is no export of fer" in refusal(model, folder, onnx=False)
    for file in (tmp_path / "best.ckpt", tmp_path / "best.ckpt" / "exported"):
        assert "is no folder, or lies in a file" in refusal(model, file, onnx=False)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    export(model, tmp_path / "link", onnx=False)
    assert left(tmp_path / "elsewhere") >= {"config.json"}


@pytest.mark.parametrize("place", ["/home/someone/w.pt", "~/w.pt", "C:\\w.pt", "\\\\host\\w.pt", "file:///w.pt"])
def test_a_path_of_the_machine_is_not_given_away(tmp_path: Path, place: str) -> None:
    head = {**card()["head"], "arguments": {"label_smoothing": 0.0}, "told": {"by": [place]}}
    said = refusal(model_of(tmp_path, head=head), tmp_path / "exported", onnx=False)
    assert said.startswith(f"head.told.by of the model is {place}, a path of this machine")

"""`fer weights inspect` and `extract`: what a file holds, which backbones it fits, and one part by itself."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from runs import fer
from safetensors.torch import load_file, save_file
from torch import Tensor

from fer_lightning.cli import inspect_weights
from fer_lightning.core.files import file_hash
from fer_lightning.models.backbone import TimmBackbone

Tensors = dict[str, Tensor]


def weights(name: str = "resnet10t", classes: int = 7, seed: int = 0) -> Tensors:
    torch.manual_seed(seed)
    state: Tensors = timm.create_model(name, num_classes=classes).state_dict()
    return state


@pytest.fixture
def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of conf/backbone are left out, which take seconds to build."""
    monkeypatch.setattr(inspect_weights, "config_groups", lambda: {"backbone": []})


def test_a_checkpoint_is_described(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in weights("mobilenetv1_100").items()}
    torch.save({"state_dict": state, "epoch": 3, "optimizer": {}}, tmp_path / "a.pth")
    code, out, err = fer("weights", "inspect", "a.pth", "--backbone", "resnet10t", folder=tmp_path)
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    size, network = (tmp_path / "a.pth").stat().st_size, timm.create_model("mobilenetv1_100", num_classes=7)
    assert lines[:5] == [
        "a.pth",
        f"kind: PyTorch (zip), {size:,} bytes",
        f"SHA-256: {file_hash(tmp_path / 'a.pth')}",
        f"below state_dict: {len(state)} tensors, {sum(p.numel() for p in network.parameters()):,} parameters",
        "by module: module.conv_stem 1, module.bn1 5, module.blocks 156, module.classifier 2",
    ]
    for line in (
        "first: module.conv_stem.weight (32, 3, 3, 3) float32",
        "last: module.classifier.bias (7,) float32",
        "first convolution: module.conv_stem.weight, 3 input channels",
        "classifier: module.classifier, 7 classes of 1024 features",
        "beside: epoch, optimizer",
        "backbone=mobilenetv1_vggface2: fits: taken from state_dict, names without their prefix module.; "
        "left out: its classifier, classifier of 7 classes, epoch, optimizer",
    ):
        assert line in lines
    verdicts = dict(line.split(": ", 1) for line in lines[lines.index("as backbone.weights:") + 1 :])
    assert [name for name, verdict in verdicts.items() if verdict.startswith("fits")] == [
        "backbone=mobilenetv1_vggface2"
    ]
    assert verdicts.keys() == {
        "backbone=mobilenetv1_vggface2",
        "backbone=seresnet50_vggface2",
        "backbone=timm backbone.name=resnet50",
        "backbone=timm backbone.name=resnet10t",
        "backbone=tiny",
    }
    assert verdicts["backbone=timm backbone.name=resnet10t"].startswith("does not fit: the file lacks ")


@pytest.mark.usefixtures("no_networks")
def test_kinds_of_files(tmp_path: Path) -> None:
    arrays = {name: value.numpy() for name, value in weights().items()}
    torch.save(weights(), tmp_path / "old", _use_new_zipfile_serialization=False)
    save_file({f"backbone.{name}": value for name, value in weights().items()}, tmp_path / "safe")
    (tmp_path / "arrays").write_bytes(pickle.dumps(arrays, 2))
    for name, kind in (
        ("old", "PyTorch before 1.6"),
        ("safe", "safetensors"),
        ("arrays", "pickle of arrays"),
    ):
        code, out, _ = fer("weights", "inspect", str(tmp_path / name), "--backbone", "resnet10t")
        assert code == 0
        assert f"kind: {kind}, " in out
        assert "conv1.0.weight, 3 input channels" in out
        assert "fc, 7 classes of 512 features" in out


@pytest.mark.usefixtures("no_networks")
def test_grey_pictures(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(8, 1, 3, 3), "layer.0.weight": torch.ones(8, 8, 1, 1)}, tmp_path / "a")
    assert "conv1.weight, 1 input channels" in fer("weights", "inspect", str(tmp_path / "a")).out


def test_what_is_damaged_or_something_else_is_one_line(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.pth").write_bytes(content)
    save_file(weights(), tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-10])
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": np.array(["x"])}))
    for name in ("cut.pth", "flipped.pth", "cut.safetensors", "page.pth", "empty.pth", "a.pkl", "none.pth", "."):
        code, out, err = fer("weights", "inspect", name, folder=tmp_path)
        assert (code, out) == (2, ""), name
        (line,) = err.splitlines()
        assert line.startswith(f"fer: {name}: ")


@pytest.mark.usefixtures("no_networks")
def test_a_network_that_timm_does_not_have(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    code, out, err = fer("weights", "inspect", "a.pth", "--backbone", "resnet10x", folder=tmp_path)
    assert (code, out) == (2, "")
    assert "timm has no such network" in err


@pytest.mark.usefixtures("no_networks")
def test_one_of_several_parts_is_extracted_and_fits(tmp_path: Path) -> None:
    own = weights(seed=1)
    content = {"model": weights(), "ema": {f"module.{name}": value for name, value in own.items()}, "epoch": 1}
    torch.save(content, tmp_path / "a.pth")
    told = fer("weights", "inspect", "a.pth", "--backbone", "resnet10t", folder=tmp_path).out
    assert "2 parts fit, with different weights: model, ema.module; see fer weights extract" in told
    words = ("weights", "extract", "a.pth", "--to", "new/ema.safetensors", "--part")
    code, out, _ = fer(*words, "ema.module", folder=tmp_path)
    assert (code, out.splitlines()[0]) == (0, "new/ema.safetensors")
    new = tmp_path / "new" / "ema.safetensors"
    assert load_file(new).keys() == own.keys()
    assert all(torch.equal(value, own[name]) for name, value in load_file(new).items())
    backbone = TimmBackbone("resnet10t", mean=[0.5] * 3, std=[0.5] * 3)
    backbone.load(new)
    assert backbone.weights_hash == file_hash(new)
    assert torch.equal(backbone.network.conv1[0].weight, own["conv1.0.weight"])

    before = new.read_bytes()
    assert fer(*words, "ema.module", folder=tmp_path).code == 0  # made already
    code, _, err = fer(*words, "model", folder=tmp_path)
    assert code == 2
    assert "holds something else and is not overwritten" in err
    code, _, err = fer(*words, "teacher", folder=tmp_path)
    assert code == 2
    assert "has no part 'teacher'; it holds" in err
    assert "in model" in err
    assert new.read_bytes() == before
    assert [path.name for path in new.parent.iterdir()] == [new.name]

"""A local state_dict is loaded strictly into a headless network; a classifier is left out, and that is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import file_hash
from fer_lightning.models.weights.weight_files import load_weights
from fer_lightning.run import build

NETWORKS = {
    "resnet10t": "fc",
    "convnext_atto": "head.fc",
    "mobilenetv3_small_050": "classifier",
    "deit_tiny_distilled_patch16_224": "head head_dist",
    "efficientvit_m0": "head",  # its last layer is head.linear, and head.bn goes with it
}


def full(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = timm.create_model(name, num_classes=7).state_dict()
    return state


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_only_the_classifier_is_left_out(
    name: str, ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, path = full(name), tmp_path / f"weights.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    network = timm.create_model(name, num_classes=0)
    with caplog.at_level(logging.INFO, logger="fer_lightning"):
        assert load_weights(network, path) == file_hash(path)
    left_out = ", ".join(f"its classifier, {classifier} of 7 classes" for classifier in NETWORKS[name].split())
    assert [record.getMessage() for record in caplog.records] == [f"backbone.weights={path}: left out: {left_out}"]
    own = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    left = {key.partition(".")[0] for key in state.keys() - own.keys()}
    assert left == {classifier.partition(".")[0] for classifier in NETWORKS[name].split()}


def test_nothing_is_said_where_nothing_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "a")
    with caplog.at_level(logging.INFO):
        load_weights(timm.create_model("resnet10t", num_classes=0), tmp_path / "a")
    assert not caplog.records


def test_a_classifier_that_the_network_has_is_loaded_or_missed(tmp_path: Path) -> None:
    state = full("resnet10t")
    save_file(state, tmp_path / "a")
    network = timm.create_model("resnet10t", num_classes=7)
    load_weights(network, tmp_path / "a")
    assert torch.equal(network.fc.weight, state["fc.weight"])
    save_file({key: value for key, value in state.items() if key != "fc.bias"}, tmp_path / "b")
    with pytest.raises(UserError, match=r"lacks fc\.bias"):
        load_weights(network, tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("resnet10t", {"fcc.weight": torch.ones(7, 512)}, "has unknown fcc.weight"),
        ("resnet10t", {"layer1.0.fc.weight": torch.ones(1)}, "has unknown layer1.0.fc.weight"),
        ("resnet10t", {"bn1.bias": torch.ones(3)}, "bn1.bias is (3,), needed (64,)"),
        ("resnet10t", {"bn1.bias": None}, "lacks bn1.bias"),
        ("convnext_atto", {"head.more.weight": torch.ones(1)}, "has unknown head.more.weight"),
    ],
)
def test_anything_else_is_an_error(
    name: str, changed: dict[str, Tensor | None], said: str, tmp_path: Path
) -> None:
    state = {key: value for key, value in {**full(name), **changed}.items() if value is not None}
    save_file(state, tmp_path / "a")
    with pytest.raises(UserError) as caught:
        load_weights(timm.create_model(name, num_classes=0), tmp_path / "a")
    assert said in str(caught.value)
    assert "do not fit the backbone" in str(caught.value)


def test_an_identifying_mobilenet_becomes_a_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("mobilenetv1_100", num_classes=9, pad_type="same").state_dict()
    torch.save(state, tmp_path / "a.pt")
    backbone = build.backbone(compose(["backbone=mobilenetv1_vggface2", f"backbone.weights={tmp_path / 'a.pt'}"]))
    assert backbone.weights_hash == file_hash(tmp_path / "a.pt")
    assert torch.equal(backbone.network.conv_stem.weight, state["conv_stem.weight"])

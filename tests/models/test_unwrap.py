"""Weights below wrapping keys and behind prefixes are loaded where they fit exactly, and what was done is said."""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import re
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import file_hash
from fer_lightning.models.weights.weight_files import load_weights
from fer_lightning.run import build

Tensors = dict[str, Tensor]
SIZES = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}


def network(classes: int = 0) -> nn.Module:
    made: nn.Module = timm.create_model("resnet18", num_classes=classes, **SIZES)
    return made


def weights(seed: int = 0, classes: int = 0) -> Tensors:
    torch.manual_seed(seed)
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value + 5
        for name, value in network(classes).state_dict().items()
    }


def behind(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def loaded(content: Any, path: Path, caplog: pytest.LogCaptureFixture) -> tuple[Tensors, str]:
    """Save what a file holds, load it, and return the network's tensors and the one line that is logged."""
    torch.save(content, path)
    into = network()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="fer_lightning"):
        assert load_weights(into, path) == file_hash(path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"backbone.weights={path}: ")
    assert "\n" not in line
    return into.state_dict(), line.removeprefix(f"backbone.weights={path}: ")


def refused(content: Any, path: Path) -> str:
    torch.save(content, path)
    into = network()
    before = {name: value.clone() for name, value in into.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(into, path)
    assert equal(into.state_dict(), before)
    line = str(caught.value)
    assert line.startswith(f"backbone.weights={path}: ")
    assert "\n" not in line
    return line


def equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


PLAIN = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}}


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "net", "ema", "network", "weights", "params", "any other"]
)
def test_a_wrapping_key(key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, line = loaded({"epoch": 3, key: weights(), "best": 0.5}, tmp_path / "a", caplog)
    assert equal(state, weights())
    assert line == f"taken from {key}; left out: epoch, best"


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "backbone.",
        "encoder.",
        "model.",
        "network.backbone.",
        "module.model.encoder.",
        "_orig_mod.",
        "0.",
        "model.1.",
    ],
)
def test_a_prefix(prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, line = loaded(behind(prefix, weights(classes=9)), tmp_path / "a", caplog)
    assert equal(state, fitting(weights(classes=9)))
    assert line == f"names without their prefix {prefix}; left out: its classifier, fc of 9 classes"


def fitting(tensors: Tensors) -> Tensors:
    """Return tensors without the classifier."""
    return {name: value for name, value in tensors.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"state_dict": {"model": weights(), "step": 1}},
            "taken from state_dict.model; left out: state_dict.step",
        ),
        ({"model": {"net": {"weights": weights()}}}, "taken from model.net.weights"),
        (
            {"state_dict": OrderedDict(behind("module.encoder.", weights())), **PLAIN},
            "taken from state_dict, names without their prefix module.encoder.; left out: epoch, optimizer",
        ),
        ({**weights(), "epoch": 3}, "left out: epoch"),
        ({"n_averaged": torch.tensor(3), **behind("module.", weights())}, "left out: n_averaged (1 tensor)"),
        ({"backbone": weights(), "head": {"weight": torch.ones(9, 8)}}, "taken from backbone; left out: head"),
    ],
)
def test_nestings_and_what_lies_beside(
    content: Any, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, line = loaded(content, tmp_path / "a", caplog)
    assert equal(state, weights())
    assert line.endswith(said)


def test_safetensors_behind_a_prefix(tmp_path: Path) -> None:
    save_file(behind("backbone.", weights()) | {"head.weight": torch.ones(9, 8)}, tmp_path / "a")
    into = network()
    load_weights(into, tmp_path / "a")
    assert equal(into.state_dict(), weights())


def test_a_head_outside_of_the_prefix_is_left_out_only_where_the_rest_is_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = behind("module.backbone.", weights())
    head = {
        "module.head.weight": torch.ones(9, 8),
        "module.margin.s": torch.ones(1),
        "module.head.bias": torch.ones(9),
    }
    state, line = loaded(tensors | head, tmp_path / "a", caplog)
    assert equal(state, weights())
    assert line.endswith("left out: module.head (2 tensors), module.margin (1 tensor)")
    tensors.pop("module.backbone.bn1.bias")
    line = refused(tensors | head, tmp_path / "b")
    assert "lacks bn1.bias (names without their prefix module.backbone.)" in line


def test_unknown_tensors_inside_the_prefix_are_refused(tmp_path: Path) -> None:
    tensors = behind("module.", weights() | {"arcface.weight": torch.ones(9, 8)})
    assert "has unknown arcface.weight (names without their prefix module.)" in refused(tensors, tmp_path / "a")


def test_a_lightning_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**behind("network.backbone.", weights()), "network.head.weight": torch.ones(9, 8)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
        "hyper_parameters": {"lr": 0.1},
    }
    state, line = loaded(checkpoint, tmp_path / "last.ckpt", caplog)
    assert equal(state, weights())
    assert "taken from state_dict, names without their prefix network.backbone." in line
    assert "left out: state_dict.network.head (1 tensor), epoch, " in line
    assert line.endswith(" and 2 more")


def test_a_face_recognition_resnet_becomes_a_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """resnet18_msceleb.pth is torchvision's ResNet-18 in DataParallel, with the epoch beside it."""
    torch.manual_seed(0)
    state = timm.create_model("resnet18", num_classes=2000).state_dict()
    path = tmp_path / "resnet18_msceleb.pth"
    torch.save({"state_dict": behind("module.", state), "epoch": 3}, path)
    with caplog.at_level(logging.INFO, logger="fer_lightning"):
        backbone = build.backbone(compose(["backbone=timm", "backbone.name=resnet18", f"backbone.weights={path}"]))
    assert equal(backbone.network.state_dict(), fitting(state))
    assert backbone.weights_hash == file_hash(path)
    assert (
        "taken from state_dict, names without their prefix module.; "
        "left out: its classifier, fc of 2000 classes, epoch" in caplog.text
    )


def test_counts_of_batches_that_older_pytorch_did_not_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {name: value for name, value in weights().items() if not name.endswith("num_batches_tracked")}
    state, line = loaded(old, tmp_path / "a", caplog)
    assert all(torch.equal(state[name], value) for name, value in old.items())
    assert not any(state[name] for name in state.keys() - old.keys())
    assert line == "BatchNorm's counts of batches, which the file lacks, start at 0"


def test_several_parts_that_fit_are_refused_and_named(tmp_path: Path) -> None:
    line = refused({"model": weights(0), "ema": {"module": weights(1)}, "epoch": 1}, tmp_path / "a")
    assert "2 parts of the file fit, with different weights: model, ema.module; " in line
    assert "fer weights extract FILE --part model --to NEW" in line
    momentum = {**behind("module.encoder_q.", weights(0)), **behind("module.encoder_k.", weights(1))}
    line = refused({"state_dict": momentum}, tmp_path / "b")
    assert "state_dict.module.encoder_q, state_dict.module.encoder_k" in line
    line = refused({**weights(0), **behind("ema.", weights(1))}, tmp_path / "c")
    assert "the file's own tensors" in line
    assert "--part ema " in line


def test_parts_with_the_same_weights_need_no_choice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, line = loaded({"model": weights(), "ema": weights()}, tmp_path / "a", caplog)
    assert equal(state, weights())
    assert line.startswith("taken from model; left out: ema")


def test_what_the_file_holds_and_what_is_needed_are_named(tmp_path: Path) -> None:
    other = {"state_dict": {f"module.block{n}.kernel": torch.ones(2) for n in range(5)}, "epoch": 1}
    line = refused(other, tmp_path / "a")
    for words in (
        "do not fit the backbone: the file lacks bn1.bias",
        "the file holds 5 tensors in state_dict (module.block0.kernel, module.block1.kernel",
        "by module: module.block0 1,",
        "its keys are state_dict, epoch",
        f"the backbone has {len(weights())} tensors: conv1.weight, bn1.weight",
    ):
        assert words in line


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_wrapped_tensor_of_another_shape_or_kind(key: str, tmp_path: Path) -> None:
    line = refused({key: weights() | {"bn1.bias": torch.ones(3)}}, tmp_path / "a")
    assert f"bn1.bias is (3,), needed (64,) (taken from {key})" in line
    line = refused({key: weights() | {"bn1.bias": torch.ones(64, dtype=torch.int32)}}, tmp_path / "a")
    assert "bn1.bias is int32, needed float32" in line


class Own(dict[str, Any]):
    """Class of another project."""


class Runs:
    """Object that makes a folder if its pickle is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, folder=Path("runs")),
        SimpleNamespace(lr=0.1),
        np.float64(0.5),
        np.arange(3),
        defaultdict(list, loss=[1.0]),
        datetime.datetime(2020, 1, 1),
        OmegaConf.create({"lr": 0.1, "layers": [1, 2], "name": "a"}),
        torch.__version__,
    ],
    ids=lambda value: type(value).__name__,
)
def test_harmless_objects_beside_the_weights(
    beside: Any, zipped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"model": weights(), "args": beside}, tmp_path / "a", _use_new_zipfile_serialization=zipped)
    into, admitted = network(), {*torch.serialization.get_safe_globals()}
    with caplog.at_level(logging.INFO, logger="fer_lightning"):
        load_weights(into, tmp_path / "a")
    assert {*torch.serialization.get_safe_globals()} == admitted  # what is admitted here is so nowhere else
    assert equal(into.state_dict(), weights())
    assert "taken from model; left out: args" in caplog.text


def test_objects_that_would_need_code_are_refused_by_name(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    for content in (
        {"model": weights(), "args": Runs(trace)},
        {"model": weights(), "args": argparse.Namespace(hidden=Runs(trace))},
    ):
        assert f"refused: it names {os.name}.mkdir" in refused(content, tmp_path / "a")
        assert not trace.exists()
    line = refused({"model": weights(), "args": Own()}, tmp_path / "b")
    assert re.search(r"refused: it names \S*test_unwrap\.Own, .*nothing was run.*save only the network's", line)
    assert "names torch.nn.modules.linear.Linear" in refused(nn.Linear(1, 1), tmp_path / "c")
    torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / "d"))
    with pytest.raises(UserError, match=r"TorchScript program; nothing was run"):
        load_weights(network(), tmp_path / "d")


def test_a_dictionary_that_contains_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": {"a": torch.ones(1)}}
    content["again"] = content
    assert "holds 1 tensor in state_dict" in refused(content, tmp_path / "a")


def test_tensors_without_content_do_not_count(tmp_path: Path) -> None:
    hollow = {name: value.to("meta") for name, value in weights().items()}
    assert "something else than tensors by name" in refused({"model": hollow}, tmp_path / "a")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged: the checksum of .* copy the file again"):
        load_weights(network(), tmp_path / "a")

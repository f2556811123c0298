"""VGGFace2's SE-ResNet-50 as published computes what timm's network computes from the imported file."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from published import CLASSES, LAYOUTS, MEAN_BGR, PICKLE, STATE_DICT, Published, made_up, pictures, python2_pickle
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fer_lightning.cli import main
from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import file_hash
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.weights.vggface2 import convert, find
from fer_lightning.models.weights.weight_files import read_published
from fer_lightning.run import build

Tensors = dict[str, Tensor]
COUNT = "num_batches_tracked"


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def published(layout: str) -> Tensors:
    return {name: torch.from_numpy(value) for name, value in made_up(layout).items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each layout, as it is published."""
    folder = tmp_path_factory.mktemp("published")
    paths = {PICKLE: folder / "senet50_ft_weight.pkl", STATE_DICT: folder / "senet50_ft_pytorch.pth"}
    paths[PICKLE].write_bytes(python2_pickle(made_up(PICKLE)))
    torch.save(in_state_dict(), paths[STATE_DICT])
    return paths


def in_state_dict() -> Tensors:
    """With the counts that newer PyTorch has."""
    tensors = {name: torch.from_numpy(value) for name, value in made_up(STATE_DICT).items()}
    norms = [name.removesuffix("running_var") for name in tensors if name.endswith("running_var")]
    return tensors | {f"{name}{COUNT}": torch.tensor(7) for name in norms}


@pytest.fixture(scope="module")
def identifying() -> Callable[[Tensors, Tensor], Tensor]:
    """Logits of the pipeline that sees the pictures, with the classifier that a headless backbone leaves out."""
    node = compose(["backbone=seresnet50_vggface2"])["backbone"]
    backbone = TimmBackbone(node["name"], mean=node["mean"], std=node["std"]).eval()
    backbone.network = timm.create_model(node["name"], num_classes=CLASSES).eval()

    @torch.no_grad()
    def logits(published: Tensors, seen: Tensor) -> Tensor:
        backbone.network.load_state_dict(convert(published, "FILE").state)
        return backbone(seen)

    return logits


def test_it_computes_what_the_published_network_does(published, layout, identifying) -> None:
    reference = Published(layout, published)
    wanted = reference.logits(pictures())
    assert wanted.std() > 0.1
    assert reference.used == published.keys()
    assert wanted[0].allclose(wanted[1], rtol=0.01) is False
    assert (identifying(published, pictures()) - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_every_kind_of_tensor_is_where_it_belongs(published, layout, identifying) -> None:
    middle = "layer2.1." if layout == PICKLE else "conv3_2_"
    last = "fc" if layout == PICKLE else "classifier"
    kinds = [name for name in published if name.startswith((middle, last))]
    assert len(kinds) == 3 * 5 + 2 * 2 + 2
    seen, changed = pictures(1), dict(published)
    for name in [next(iter(published)), *kinds]:
        before = Published(layout, changed).logits(seen)
        change = 0.75 + 0.5 * torch.rand(published[name].shape, generator=torch.Generator().manual_seed(2))
        changed[name] = published[name] * change
        wanted = Published(layout, changed).logits(seen)
        scale = wanted.abs().max()
        assert (wanted - before).abs().max() > 1e-3 * scale, name
    assert (identifying(changed, seen) - wanted).abs().max() < 1e-4 * scale


def test_no_two_tensors_change_places(published, layout) -> None:
    """Every tensor of the result is the one that its place in the network says, by a value that no other has."""
    numbered = {name: torch.full_like(value, n) for n, (name, value) in enumerate(published.items())}
    state = convert(numbered, "FILE").state
    counts = {name for name in state if name.endswith(COUNT)}
    found = [int(state[name].flatten()[0]) for name in state.keys() - counts]
    assert sorted(found) == list(range(len(published)))
    assert all((value == value.flatten()[0]).all() for value in state.values())
    assert not any(state[name] for name in counts)


def test_the_count_of_batches_may_be_there() -> None:
    state = convert(in_state_dict(), "FILE").state
    assert {int(value) for name, value in state.items() if name.endswith(COUNT)} == {7}


def embedding(published: Tensors, *, bias: bool, classifier: bool) -> Tensors:
    """A variant with an embedding of 128 numbers between features and classifier."""
    kept = {name: value for name, value in published.items() if not name.startswith("classifier")}
    kept["feat_extract.weight"] = torch.ones(128, 2048, 1, 1)
    if bias:
        kept["feat_extract.bias"] = torch.ones(128)
    if classifier:
        kept |= {"classifier.weight": torch.ones(CLASSES, 128, 1, 1), "classifier.bias": torch.ones(CLASSES)}
    return kept


@pytest.mark.parametrize(("bias", "classifier"), [(False, False), (True, True)])
def test_an_embedding_and_the_classifier_behind_it_are_left_out(bias: bool, classifier: bool) -> None:
    published = in_state_dict()
    converted = convert(embedding(published, bias=bias, classifier=classifier), "FILE")
    assert converted.left_out == ("feat_extract", *["classifier"] * classifier)
    whole = convert(published, "FILE").state
    assert converted.state.keys() == {name for name in whole if not name.startswith("last_linear")}
    assert all(torch.equal(value, whole[name]) for name, value in converted.state.items())


def test_a_classifier_may_be_missing() -> None:
    trunk = {name: value for name, value in in_state_dict().items() if not name.startswith("classifier")}
    assert len(convert(trunk, "FILE").state) == 382


MISTAKES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop("layer1.0.bn1.bias"), "lacks layer1.0.bn1.bias"),
    "three and more missing": (
        lambda t: [t.pop(f"bn1.{n}") for n in ("weight", "bias")],
        "lacks bn1.bias, bn1.weight;",
    ),
    "no SE": (lambda t: [t.pop(n) for n in [*t] if ".conv5." in n], "layer1.1.conv5.bias and 29 more"),
    "half a classifier": (lambda t: t.pop("fc.bias"), "lacks fc.bias"),
    "the other half": (lambda t: t.pop("fc.weight"), "has unknown fc.bias"),
    "unknown": (lambda t: t.update({"more.weight": torch.ones(3)}), "has unknown more.weight"),
    "unknown that reads features": (
        lambda t: t.update({"more.weight": torch.ones(3, 2048)}),
        "unknown more.weight",
    ),
    "shape": (
        lambda t: t.update({"layer1.0.conv2.weight": torch.ones(64, 64, 1, 1)}),
        "layer1.0.conv2.weight is (64, 64, 1, 1), needed (64, 64, 3, 3)",
    ),
    "shape of the classifier": (lambda t: t.update({"fc.weight": torch.ones(CLASSES, 512)}), "needed (11, 2048)"),
    "no shape at all": (lambda t: t.update({"fc.weight": torch.tensor(1.0)}), "has unknown fc.bias, fc.weight"),
    "whole numbers": (
        lambda t: t.update({"conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.int64)}),
        "conv1.weight",
    ),
    "not a number": (
        lambda t: t.update({"layer4.2.bn3.bias": torch.full((2048,), torch.nan)}),
        "layer4.2.bn3.bias does not hold finite",
    ),
    "another network": (lambda t: t.pop("conv1.weight"), "neither conv1.weight nor conv1_7x7_s2.weight"),
    "done": (lambda t: (t.clear(), t.update({"layer0.conv1.weight": torch.ones(1)})), "has timm's names already"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_what_does_not_fit_is_named(kind: str) -> None:
    spoil, said = MISTAKES[kind]
    published = {name: torch.from_numpy(value) for name, value in made_up(PICKLE).items()}
    spoil(published)
    with pytest.raises(UserError) as caught:
        convert(published, "FILE")
    assert said in str(caught.value)
    assert str(caught.value).startswith("FILE: ")
    assert "\n" not in str(caught.value)


def imported(file: Path, folder: Path, *words: str) -> Path:
    assert main.main(["weights", "import", str(file), "--to", str(folder), *words]) == 0
    return folder / "senet50_vggface2.safetensors"


def refused(capsys: pytest.CaptureFixture[str], file: Path, folder: Path, *words: str) -> str:
    """The one line that a user is told, after checking that nothing was written."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert main.main(["weights", "import", str(file), "--to", str(folder), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("fer: ")
    assert sorted(folder.rglob("*")) == before
    return line


def test_from_the_published_file_to_a_backbone(layout, published, files, tmp_path, capsys) -> None:
    """The whole way, by the real command: import, compose, build, embed."""
    path = imported(files[layout], tmp_path / "new", "--sha256", file_hash(files[layout]).upper())
    said = capsys.readouterr().out
    assert f"backbone=seresnet50_vggface2 backbone.weights={path}" in said
    assert file_hash(files[layout]) in said
    assert "left out: nothing" in said
    assert ("BGR" if layout == PICKLE else "RGB") in said
    backbone = build.backbone(compose(["backbone=seresnet50_vggface2", f"backbone.weights={path}"])).eval()
    assert backbone.weights_hash == file_hash(path)
    with torch.no_grad():
        found, wanted = backbone(pictures()), Published(layout, published).features(pictures())
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_wrapped_files_behind_a_prefix_are_imported_alike(layout, files, tmp_path, capsys) -> None:
    tensors = in_state_dict() if layout == STATE_DICT else made_up(PICKLE)
    content = {"epoch": 3, "state_dict": {f"module.backbone.{name}": value for name, value in tensors.items()}}
    file = tmp_path / "wrapped"
    if layout == STATE_DICT:
        torch.save(content, file)
    else:
        file.write_bytes(python2_pickle(content))
    found = load_file(imported(file, tmp_path))
    said = capsys.readouterr().out
    assert "taken from state_dict, names without their prefix module.backbone." in said
    assert "left out: epoch" in said
    wanted = convert(read_published(files[layout].read_bytes(), "FILE"), "FILE").state
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


def test_a_key_or_a_prefix_alone(published) -> None:
    prefixed = {f"module.{name}": value for name, value in published.items()}
    for content in (published, {"model": published}, prefixed, {"net": {"model": prefixed}, "epoch": 1}):
        assert find(content, "FILE").tensors.keys() == published.keys()


def test_what_a_wrapped_file_lacks_is_named_with_its_place(tmp_path, capsys) -> None:
    tensors = {f"module.{name}": value for name, value in in_state_dict().items()}
    tensors.pop("module.conv3_2_3x3.weight")
    torch.save({"state_dict": tensors}, tmp_path / "a.pth")
    line = refused(capsys, tmp_path / "a.pth", tmp_path)
    assert "a.pth, state_dict.module: the file lacks conv3_2_3x3.weight" in line


def test_a_file_with_two_such_networks_is_refused(tmp_path, capsys) -> None:
    other = {name: value + 1 for name, value in in_state_dict().items()}
    torch.save({"model": in_state_dict(), "ema": other}, tmp_path / "a.pth")
    assert "2 parts of the file fit, with different weights: model, ema;" in refused(
        capsys, tmp_path / "a.pth", tmp_path
    )


def test_the_file_tells_where_it_is_from_and_how_it_is_used(files, tmp_path) -> None:
    path = imported(files[PICKLE], tmp_path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["fer_lightning"])
        classifier = file.get_tensor("last_linear.weight")
    assert classifier.shape == (CLASSES, 2048)
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # a group shares it
    assert (about["source"], about["source_sha256"]) == (files[PICKLE].name, file_hash(files[PICKLE]))
    assert about["colour"] == "RGB"
    node = compose(["backbone=seresnet50_vggface2"])["backbone"]
    assert np.allclose(255 * np.array(about["mean"]), MEAN_BGR[::-1], atol=1e-9)
    assert np.allclose(about["mean"], node["mean"], atol=1e-9)
    assert np.allclose(about["std"], node["std"], atol=1e-12)
    assert "nothing is granted" in about["licence"]


def test_an_import_gives_the_same_bytes_each_time_and_is_made_once(files, tmp_path, capsys) -> None:
    first = imported(files[STATE_DICT], tmp_path / "a")
    assert file_hash(first) == file_hash(imported(files[STATE_DICT], tmp_path / "b"))
    written = first.stat().st_mtime_ns
    capsys.readouterr()
    imported(files[STATE_DICT], tmp_path / "a")
    assert "exists already" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == written
    assert "holds something else" in refused(capsys, files[PICKLE], tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.name]


def test_what_is_in_the_way_is_kept(files, tmp_path, capsys) -> None:
    target = tmp_path / "senet50_vggface2.safetensors"
    target.write_text("mine")
    assert "another folder with --to" in refused(capsys, files[PICKLE], tmp_path)
    assert target.read_text() == "mine"
    assert "cannot be written" in refused(capsys, files[PICKLE], target)


def test_another_hash_than_the_given_one(files, tmp_path, capsys) -> None:
    line = refused(capsys, files[PICKLE], tmp_path, "--sha256", "0" * 64)
    assert file_hash(files[PICKLE]) in line
    assert "give the 64 hex digits" in refused(capsys, files[PICKLE], tmp_path, "--sha256", "abc")


def test_older_pytorch_wrote_state_dicts_in_another_way(tmp_path) -> None:
    torch.save(in_state_dict(), tmp_path / "senet50_ft_dag.pth", _use_new_zipfile_serialization=False)
    imported(tmp_path / "senet50_ft_dag.pth", tmp_path)


def test_what_a_file_is_called_does_not_matter(files, tmp_path) -> None:
    for layout, name in ((PICKLE, "a.safetensors"), (STATE_DICT, "b.pkl")):
        (tmp_path / name).hardlink_to(files[layout])
        imported(tmp_path / name, tmp_path / layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_was_cut_off(layout, files, tmp_path, capsys) -> None:
    content = files[layout].read_bytes()
    for length in (0, 1, 9, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        line = refused(capsys, tmp_path / "cut", tmp_path)
        assert "not a whole" in line, (length, line)


def test_files_that_are_not_there_or_something_else(tmp_path, capsys) -> None:
    assert "no such file" in refused(capsys, tmp_path / "nowhere.pkl", tmp_path)
    assert "cannot be read: Is a directory" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "page.pkl").write_text("<!DOCTYPE html>\n<html>404</html>")
    assert "not a whole pickle" in refused(capsys, tmp_path / "page.pkl", tmp_path)
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    assert "something else than tensors by name" in refused(capsys, tmp_path / "list.pth", tmp_path)


@pytest.mark.parametrize("protocol", [2, 4, None])
def test_a_file_that_names_code(protocol, tmp_path, capsys) -> None:
    """None: as a PyTorch file."""
    file, trace = tmp_path / "evil", tmp_path / "it-ran"
    value = {"conv1.weight": Code(trace)}
    if protocol is None:
        torch.save(value, file)
    else:
        file.write_bytes(pickle.dumps(value, protocol))
    line = refused(capsys, file, tmp_path)
    assert f"refused: it names {os.name}.mkdir" in line
    assert "nothing was run" in line
    assert not trace.exists()


class Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (self.path,))


def test_a_file_that_is_not_imported_yet_is_told_how(files, tmp_path) -> None:
    nowhere = tmp_path / "nowhere.safetensors"
    for path, said in (
        (files[PICKLE], "is neither"),
        (files[STATE_DICT], "the file lacks"),
        (nowhere, "no such file"),
    ):
        with pytest.raises(UserError) as caught:
            build.backbone(compose(["backbone=seresnet50_vggface2", f"backbone.weights={path}"]))
        assert str(caught.value).startswith(f"backbone.weights={path}: ")
        assert said in str(caught.value)
        assert "fer weights import FILE --to DIR" in str(caught.value)
    with pytest.raises(UserError, match=r"weights is not set.*from_scratch.*fer weights import FILE --to DIR"):
        build.backbone(compose(["backbone=seresnet50_vggface2"]))

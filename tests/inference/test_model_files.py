"""Files of a model: what is kept in them, and what is refused in one line without running code."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_models import CORRECTIONS, NAMES, OWN, card, content, crops, same, state, write
from torch import nn

from fer_lightning import load_model
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.inference import checkpoint as files
from fer_lightning.inference.exported import CONFIG, WEIGHTS, save_safetensors
from fer_lightning.inference.model import Model


@pytest.fixture
def best(tmp_path: Path) -> Path:
    return write(tmp_path / "best.ckpt")


@pytest.fixture
def model(best: Path) -> Model:
    return load_model(best, OWN)


@pytest.fixture
def exported(model: Model, tmp_path: Path) -> Path:
    save_safetensors(model, tmp_path / "exported")
    return tmp_path / "exported"


def refusal(path: Path | str) -> str:
    """The one line with which a path is refused."""
    with pytest.raises(UserError) as caught:
        load_model(path, OWN)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


def test_a_model_is_found_by_each_of_its_paths(
    best: Path, model: Model, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(best.parent))
    run = best.parent / "run"
    run.mkdir()
    shutil.copy(best, run)
    for path in ("~/best.ckpt", run, exported, exported / WEIGHTS, str(exported / CONFIG), "~/exported"):
        again = load_model(path, OWN)
        assert same(again, model), path
        assert torch.equal(again(crops(3)), model(crops(3)))
    assert again.classes == tuple(NAMES)
    assert again.corrections == CORRECTIONS
    assert again.framing.faces == "boxes"


def test_an_export_says_what_other_programs_need_and_nothing_of_the_machine(exported: Path) -> None:
    told = json.loads((exported / CONFIG).read_text())
    assert told["classes"] == NAMES
    assert (told["version"], told["size"], told["corrections"]) == (files.VERSION, 12, CORRECTIONS)
    assert told["framing"] == card()["framing"] == told["card"]["framing"]
    assert "/home" not in json.dumps(told)


def test_corrections_are_added_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = write(tmp_path / "best.ckpt", **{files.CORRECTIONS: {}})
    before = torch.load(path, weights_only=True)
    files.keep_corrections(path, {"temperature": {"temperature": 3.0}})
    after = torch.load(path, weights_only=True)
    assert after.pop(files.CORRECTIONS) == {"temperature": {"temperature": 3.0}}
    states = [kept.pop("state_dict") for kept in (before, after)]
    assert before.items() >= after.items()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert load_model(path, OWN).corrections == {"temperature": {"temperature": 3.0}}
    assert [*tmp_path.iterdir()] == [path]


def test_a_checkpoint_from_before_there_were_versions_is_loaded_with_a_line(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {"state_dict": state(), files.CARD: {key: v for key, v in card().items() if key != "framing"}}
    torch.save(old, tmp_path / "old.ckpt")
    loaded = load_model(tmp_path / "old.ckpt", OWN)
    (line,) = caplog.messages
    assert "its weights cannot be checked" in line
    assert torch.equal(loaded(crops(2)), model(crops(2)))
    assert loaded.framing == model.framing.model_copy(update={"faces": None})
    assert loaded.corrections == {}


class Code:
    """Runs when it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.trace,)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in content().items() if name != key}


def with_card(**other: Any) -> dict[str, Any]:
    return content(**{files.CARD: card(**other)})


def with_weight(value: Any, *, sealed: bool = True) -> dict[str, Any]:
    made = content()
    made["state_dict"]["network.head.classifier.bias"] = value
    if sealed:
        files.seal(made)
    return made


CHECKPOINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "a newer version": (lambda: content(**{files.SEAL: {"version": 2}}), "written in version 2"),
    "no number": (lambda: content(**{files.SEAL: {"version": "1"}}), "no version"),
    "no version": (lambda: content(**{files.SEAL: []}), "no version"),
    "no hash": (lambda: content(**{files.SEAL: {"version": 1}}), "not the ones that were written"),
    "an altered weight": (lambda: with_weight(torch.ones(3), sealed=False), "not the ones that were written"),
    "a NaN": (
        lambda: with_weight(torch.tensor([0.0, float("nan"), 1.0])),
        "classifier.bias has values that are not",
    ),
    "an infinity": (lambda: with_weight(torch.tensor([0.0, float("inf"), 1.0])), "not finite"),
    "a number for a weight": (lambda: with_weight(1.0, sealed=False), "classifier.bias is no ordinary tensor"),
    "a sparse weight": (lambda: with_weight(torch.zeros(3).to_sparse(), sealed=False), "no ordinary tensor"),
    "another shape": (lambda: with_weight(torch.ones(4)), "weights do not fit.*size mismatch"),
    "no weights": (lambda: content(state_dict={}), "no weights of a network"),
    "weights of another module": (lambda: content(state_dict={"conv1": torch.ones(1)}), "no weights of a network"),
    "a list of weights": (lambda: content(state_dict=[torch.ones(1)]), "no weights by name"),
    "no state_dict": (lambda: without("state_dict"), "was not written by fer"),
    "no card": (lambda: without(files.CARD), "was not written by fer"),
    "a list": (lambda: [1, 2], "was not written by fer"),
    "the state of a run": (lambda: content(optimizer_states=[]), "state of an interrupted run and no model"),
    "a card that is a list": (lambda: content(**{files.CARD: []}), "its card"),
    "a card without a head": (lambda: content(**{files.CARD: {**card(), "head": None}}), "its card.*head"),
    "classes that are numbers": (
        lambda: with_card(class_stats={"names": [1, 2], "counts": [1, 2]}),
        "class_stats",
    ),
    "a class twice": (lambda: with_card(class_stats={"names": ["a", "a"], "counts": [1, 2]}), "named twice"),
    "counts of others": (lambda: with_card(class_stats={"names": ["a", "b"], "counts": [1]}), "class_stats"),
    "a size in words": (lambda: with_card(framing={**card()["framing"], "size": "large"}), "framing.size"),
    "a crop beyond the size": (lambda: with_card(framing={**card()["framing"], "crop": 99}), "crop=99 is larger"),
    "an unknown codec": (lambda: with_card(framing={**card()["framing"], "codec": "gif"}), "framing.codec"),
    "a margin of NaN": (
        lambda: with_card(framing={**card()["framing"], "margin": float("nan")}),
        "framing.margin",
    ),
    "arguments in a list": (lambda: with_card(neck={"class": "a", "arguments": []}), "neck.arguments"),
    "arguments that are not taken": (
        lambda: with_card(neck={"class": "fer_lightning.models.neck.Identity", "arguments": {"a": 1}}),
        "network of its card cannot be built",
    ),
    "a neck beyond all memory": (
        lambda: with_card(
            neck={"class": "fer_lightning.models.neck.LinearPReLU", "arguments": {"features": 10**13}}
        ),
        "describes a network of .* values, and it has",
    ),
    "a backbone beyond all memory": (
        lambda: with_card(
            backbone={
                "name": "vit_tiny_patch16_224",
                "arguments": {"embed_dim": 10**6 - 1},
                "mean": [0.0] * 3,
                "std": [1.0] * 3,
            }
        ),
        "describes a network of .* values, and it has",
    ),
    "a network that would be fetched": (
        lambda: with_card(backbone={"name": "hf-hub:a/b", "mean": [0.0] * 3, "std": [1.0] * 3}),
        "would fetch weights",
    ),
    "a module for a head": (
        lambda: with_card(head={"class": "os.system", "arguments": {}}),
        "not in fer_lightning",
    ),
    "corrections in words": (lambda: content(**{files.CORRECTIONS: {"temperature": "hot"}}), "corrections"),
    "corrections without end": (
        lambda: content(**{files.CORRECTIONS: {"temperature": {"temperature": float("inf")}}}),
        "corrections",
    ),
    "code": (lambda: content(epoch=Code("{trace}")), "refused"),
    "code for a weight": (lambda: with_weight(Code("{trace}"), sealed=False), "refused"),
    "a module": (lambda: nn.Linear(1, 1), "refused"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_is_refused_in_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, said = CHECKPOINTS[kind]
    torch.save(made(), "wrong.ckpt")
    with pytest.raises(UserError, match=said):
        load_model("wrong.ckpt", OWN)
    refusal("wrong.ckpt")
    assert not (tmp_path / "{trace}").exists()


def zipped(**parts: bytes) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


FOREIGN: dict[str, tuple[str, bytes, str]] = {
    "empty": ("best.ckpt", b"", "is empty"),
    "text": ("best.ckpt", b"version https://git-lfs.github.com/spec/v1\n", "is no checkpoint"),
    "an ONNX model": ("model.onnx", b"\x08\x07\x12\x07pytorch", "is an ONNX model"),
    "a pickle": ("best.ckpt", pickle.dumps({"state_dict": {}}), "is no checkpoint"),
    "a pickle with code": ("best.ckpt", pickle.dumps(Code("{trace}")), "is no checkpoint"),
    "another zip": ("best.ckpt", zipped(a=b"b" * 999), "damaged"),
    "only the start of a zip": ("best.ckpt", b"PK\x03\x04", "cannot be read"),
    "a picture": ("best.ckpt", b"\x89PNG\r\n\x1a\n" + bytes(99), "is no checkpoint"),
    "weights alone": (WEIGHTS, safetensors.torch.save({"a": torch.ones(1)}), f"{CONFIG}: no such file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_file_is_refused_in_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, data, said = FOREIGN[kind]
    Path(name).write_bytes(data)
    assert said in refusal(name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_not_there_is_refused_in_one_line(tmp_path: Path, exported: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no model" in refusal(tmp_path / "empty")
    assert "no such file" in refusal(tmp_path / "nothing.ckpt")
    assert "no such file" in refusal(tmp_path / "nothing.safetensors")
    assert "no home folder is known" in refusal("~nobody-of-that-name/best.ckpt")
    write(exported / "best.ckpt")
    assert "give the path of one of them" in refusal(exported)
    (exported / "best.ckpt").unlink()
    (exported / WEIGHTS).unlink()
    assert f"{WEIGHTS}: no such file" in refusal(exported / CONFIG)


def altered(folder: Path, *, sealed: bool, **keys: Any) -> None:
    told = json.loads((folder / CONFIG).read_text())
    told |= keys
    if sealed:
        told["hashes"].pop("config")
        told["hashes"]["config"] = content_hash(told)
    (folder / CONFIG).write_text(json.dumps(told))


def test_an_altered_export_is_refused_in_one_line(exported: Path) -> None:
    text = (exported / CONFIG).read_text()
    altered(exported, sealed=False, card=card(protocol={"size": 64}))
    assert "not as it was written" in refusal(exported)
    for wrong, said in ({"version": 2}, "version 2"), ({"corrections": 3}, "corrections"), ({"card": []}, "card"):
        (exported / CONFIG).write_text(text)
        altered(exported, sealed=True, **wrong)
        assert said in refusal(exported)
    for wrong_text in ("", "{}", "[1]", "null", "{" * 5000, '{"hashes": 1, "version": 1}', text[:-9], "\0"):
        (exported / CONFIG).write_text(wrong_text)
        assert CONFIG in refusal(exported)
    (exported / CONFIG).write_text(text)
    weights = safetensors.torch.load_file(exported / WEIGHTS)
    weights["head.classifier.bias"] += 1e-6
    safetensors.torch.save_file(weights, exported / WEIGHTS)
    assert "not the ones that were written" in refusal(exported)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file with a bit flipped, cut off, with bytes swapped, in part overwritten, or longer."""
    made, where = bytearray(data), chance.randrange(len(data))
    match chance.randrange(8):
        case 0:
            return bytes(made[:where])
        case 1:
            other = chance.randrange(len(data))
            made[where], made[other] = made[other], made[where]
        case 2:
            made[where : where + 64] = chance.randbytes(min(64, len(data) - where))
        case 3:
            del made[where : where + chance.randrange(1, 9)]
        case _:
            made[where] ^= 1 << chance.randrange(8)
    return bytes(made)


def test_of_a_thousand_damaged_files_none_is_another_model(best: Path, model: Model, exported: Path) -> None:
    chance, lines = random.Random(0), list[str]()
    for path in (best, exported / WEIGHTS, exported / CONFIG):
        whole = path.read_bytes()
        for n in range(500 if path == best else 250):
            path.write_bytes(damaged(whole, chance))
            try:
                loaded = load_model(path, OWN)
            except UserError as error:
                lines.append(str(error))
            else:
                assert same(loaded, model), f"{path.name} {n}"
        path.write_bytes(whole)
    assert not [line for line in lines if "\n" in line or len(line) > 500]
    assert 700 < len(lines) < 1000  # the others hit padding, or names and times that nobody reads

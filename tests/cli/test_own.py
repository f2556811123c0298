"""A user's own loss, backbone, data, weights, sampler, schedule, from their folder, as README shows."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from runs import fer, result
from torch import nn

from fer_lightning.cli import main
from fer_lightning.cli.train import try_out_own
from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.inference.load_model import load_model
from fer_lightning.models.backbone import OwnBackbone
from fer_lightning.models.network import Network
from fer_lightning.run import build
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.run.check_config import check
from fer_lightning.run.evaluate_checkpoint import merged

README = Path(__file__).parents[2] / "README.md"
CLASSES = {"happy": 24, "sad": 16, "fear": 12}

MORE = """
from pathlib import Path

import torch
from torch import nn

from fer_lightning.data.manifest import Manifest, make_rows


class Net(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Conv2d(8, width, 3, stride=2)
        self.num_features = width

    def forward(self, images):
        return self.last(self.stem(images.float() / 255)).mean((2, 3))


class Pretrained(Net):
    def __init__(self, width: int, pretrained: bool):
        super().__init__(width)
        if pretrained:
            nn.init.ones_(self.last.weight)


def read(root: str, classes: list[str]):
    paths = sorted(path.relative_to(root) for path in Path(root).rglob("*.png"))
    rows = {
        "id": [str(path) for path in paths],
        "path": [path.as_posix() for path in paths],
        "label": [path.parts[1] for path in paths],
        "split": [path.parts[0] for path in paths],
    }
    return Manifest("mine", Path(root), make_rows(rows), tuple(classes))


def weights(counts):
    return [1 / n for n in counts]


def sampler(labels, generator, progress):
    return generator.permutation(len(labels))
"""

OPTIONS = {
    "backbone": "_target_: more.Net\nwidth: 16\n",
    "class_weights": "defaults: [none, _self_]\n_target_: more.weights\n",
    "sampler": "_target_: more.sampler\n",
    "data": f"""
defaults: [_defaults, _self_]
_target_: more.read
root: faces
test_split: test
classes: [{", ".join(CLASSES)}]
size: 32
batch_size: 8
minival: 0.25
""",
}
WORDS = ["--config-dir", "conf", *(f"{group}=mine" for group in OPTIONS), "stage.epochs=1"]

TABLE = f"""
title: Mine
overrides: [{", ".join(WORDS[2:])}]
seeds: [0]
metrics: [macro_recall]
rows:
  - {{method: softmax, overrides: [loss=softmax]}}
  - {{method: mine, overrides: [loss=mine]}}
"""


def example() -> tuple[str, str]:
    """Return the module and the option of README's loss."""
    section = README.read_text().partition("## A loss of your own")[2].partition("\n## ")[0]
    (module,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (option,) = re.findall(r"`(\{_target_: .*?\})`", section)
    return module, option


def write(folder: Path, group: str, text: str, name: str = "mine") -> None:
    path = folder / "conf" / group / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: mine.py and conf/ from README, more.py for the rest, and pictures."""
    folder = tmp_path_factory.mktemp("own")
    module, option = example()
    (folder / "mine.py").write_text(module)
    (folder / "more.py").write_text(MORE)
    write(folder, "loss", option)
    for group, text in OPTIONS.items():
        write(folder, group, text)
    (folder / "table.yaml").write_text(TABLE)
    generator = np.random.default_rng(0)
    for k, (name, count) in enumerate(CLASSES.items()):
        for split, pictures in (("train", count), ("test", 6)):
            place = folder / "faces" / split / name
            place.mkdir(parents=True)
            for n in range(pictures):
                image = generator.integers(0, 150, (32, 32, 3), np.uint8)
                image[..., k] += 60
                cv2.imwrite(str(place / f"{n}.png"), image)
    return folder


@pytest.fixture(scope="module")
def sweep(folder: Path) -> dict[str, Path]:
    """Folders of a run with softmax and one with the own loss, with everything else the user's own."""
    command = [sys.executable, "-m", "fer_lightning", "train", "-m", *WORDS]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # as with the installed script: not on its path
    done = subprocess.run(
        [*command, "loss=softmax,mine", "hydra.sweep.dir=runs"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {path.parent.name.partition("-")[0]: path.parent for path in folder.glob("runs/*/result.json")}
    assert sorted(runs) == ["mine", "softmax"]
    return runs


@pytest.fixture(autouse=True)
def forgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports from a user's folder, and from where, is forgotten after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("mine", "more", "wrong", "mine_schedule", "mine_other"):
        sys.modules.pop(name, None)


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process in the user's folder, as a notebook that lies there."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_the_example_is_short() -> None:
    assert len("\n".join(example()).splitlines()) <= 25


def test_a_table_has_a_row_for_the_own_loss_and_trains_nothing_again(folder: Path, sweep: dict[str, Path]) -> None:
    assert result(sweep["mine"])["protocol"]["backbone"] == "more.Net"
    assert result(sweep["mine"])["classes"] == list(CLASSES)
    shown = fer("table", "show", "runs", folder=folder)
    assert shown.code == 0, shown.err
    assert re.search(r"^mine x mine\b", shown.out, re.MULTILINE)
    assert not {"mine", "more"} & sys.modules.keys()
    again = fer("table", "run", "table.yaml", "--config-dir", "conf", "--out", "runs", folder=folder)
    assert again.code == 0, again.err
    assert "all 2 runs are complete, nothing is trained" in again.out
    assert re.search(r"^mine\b", again.out, re.MULTILINE)


class Wide(nn.Module):
    """Stands where Net should be."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def test_a_checkpoint_names_the_class_it_needs_and_imports_nothing(inside: Path, sweep: dict[str, Path]) -> None:
    checkpoint = sweep["mine"] / "best.ckpt"
    with pytest.raises(UserError, match=r"backbone is more.Net.*own={'more.Net': Net}"):
        load_model(checkpoint)
    with pytest.raises(UserError, match=r"head is mine.MineHead.*own={'mine.MineHead': MineHead}"):
        load_model(checkpoint, own={"more.Net": Wide})
    assert not {"mine", "more"} & sys.modules.keys()


def test_a_model_is_loaded_with_the_classes_that_are_given(inside: Path, sweep: dict[str, Path]) -> None:
    head, net = importlib.import_module("mine").MineHead, importlib.import_module("more").Net
    model = load_model(sweep["mine"] / "best.ckpt", own={"mine.MineHead": head, "more.Net": net})
    assert isinstance(model.network.head, head)
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3)
    assert model.classes == tuple(CLASSES)


def test_evaluate_uses_the_folder_that_the_user_names(
    folder: Path, sweep: dict[str, Path], tmp_path: Path
) -> None:
    words = ["evaluate", str(sweep["mine"] / "best.ckpt"), f"hydra.run.dir={tmp_path}"]
    assert fer(*words, folder=folder).code == 2
    assert fer(*words, "--config-dir", "conf", folder=folder).code == 0
    for key in ("metrics", "confusion", "posthoc", "protocol", "config"):
        assert result(tmp_path)[key] == result(sweep["mine"])[key]


def test_predict_and_export_use_the_folder_that_the_user_names(
    folder: Path, sweep: dict[str, Path], tmp_path: Path
) -> None:
    Image.new("RGB", (40, 40), "gray").save(tmp_path / "grey.png")
    exported = ["export", str(sweep["mine"]), "--to", str(tmp_path / "model"), "--no-onnx"]
    assert fer(*exported, "--config-dir", "conf", folder=folder).code == 0
    for model in (sweep["mine"], tmp_path / "model"):
        words = ["predict", str(model), str(tmp_path / "grey.png"), "--crop", "none"]
        refused = fer(*words, folder=folder)
        assert refused.code == 2
        assert "--config-dir to fer predict" in refused.err + refused.out
        done = fer(*words, "--config-dir", "conf", folder=folder)
        assert done.code == 0, done.out + done.err
        assert "p_happy" in done.out
    assert fer(*words, "--config-dir", "nowhere", folder=folder).code == 2
    refused = fer("evaluate", str(tmp_path / "model/model.safetensors"), "--config-dir", "conf", folder=folder)
    assert refused.code == 2
    assert "give the best.ckpt of its run" in refused.err + refused.out


def evil_card(**choices: str) -> dict:
    """What a checkpoint may say that wants code to be run."""
    config = compose([])
    groups = {group: {**config[group], "_target_": "evil.run"} for group in config["choices"]}
    groups["stage"] = {"evil": {"_target_": "evil.run"}}
    return {"config": {**config, **groups, "choices": config["choices"] | choices}}


def test_evaluate_takes_no_target_from_a_checkpoint() -> None:
    used = merged(evil_card(), ["data.workers=1"], None)
    assert "evil" not in json.dumps(used)
    assert used["data"]["workers"] == 1
    check(used)


@pytest.mark.parametrize(("option", "said"), [("../elsewhere", "no option's name"), ("mine", "give --config-dir")])
def test_evaluate_takes_no_path_for_an_option(option: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        merged(evil_card(data=option), [], None)


def test_edited_code_makes_another_run_and_evaluate_says_so(
    folder: Path,
    sweep: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(folder)
    before = compose(["loss=mine"], "conf")
    text = Path("mine.py").read_text()
    Path("mine.py").write_text(f"{text}# edited\n")
    after = compose(["loss=mine"], "conf")
    words = ["evaluate", str(sweep["mine"] / "best.ckpt"), "--config-dir", "conf", f"hydra.run.dir={tmp_path}"]
    assert main.main(words) == 0
    Path("mine.py").write_text(text)
    assert before != after
    assert before == compose(["loss=mine"], "conf")
    assert "the code of loss=mine has changed since the training" in caplog.text
    assert "backbone" not in caplog.text


def own_backbone(folder: Path, target: str, seed: int, pretrained: bool = True) -> OwnBackbone:
    write(folder, "backbone", f"_target_: {target}\nwidth: 4\n", "other")
    config = compose(["backbone=other", f"seed={seed}"], str(folder / "conf"))
    made = build.backbone(config, pretrained=pretrained)
    assert isinstance(made, OwnBackbone)
    return made


def test_the_hash_of_an_own_backbones_weights_leaves_out_what_is_drawn(folder: Path) -> None:
    drawn = [own_backbone(folder, "more.Net", seed) for seed in (0, 1)]
    loaded = [own_backbone(folder, "more.Pretrained", seed) for seed in (0, 1)]
    assert not torch.equal(drawn[0].network.last.weight, drawn[1].network.last.weight)
    assert drawn[0].weights_hash == drawn[1].weights_hash
    assert loaded[0].weights_hash == loaded[1].weights_hash != drawn[0].weights_hash
    assert own_backbone(folder, "more.Pretrained", 0, pretrained=False).weights_hash is None


class Inside(nn.Module):
    """A network in a network, as around one of timm's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.num_features = 1


class Beside(Inside):
    """With a parameter beside its children."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.scale = nn.Parameter(torch.ones(1))


def test_the_children_of_an_own_backbone_are_its_blocks() -> None:
    def blocks(network: nn.Module) -> dict[str, list[str]]:
        return OwnBackbone(network, {"class": "a.B", "source": ""}).blocks()

    layers = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
    assert [*blocks(Inside(layers))] == ["0", "2"]
    first, last = blocks(Inside(layers)).values()
    assert first == ["network.inner.0.weight", "network.inner.0.bias"]
    assert [name.rpartition(".")[0] for name in last[::2]] == ["network.inner.2.0", "network.inner.2.1"]
    beside = blocks(Beside(layers))
    assert [len(block) for block in beside.values()] == [1, 6]
    assert next(iter(beside)) == "stem"
    assert [len(block) for block in blocks(Inside(nn.Linear(1, 1))).values()] == [2]


HEAD = """
from torch import nn
from fer_lightning.core.contracts import HeadOutput
class Wrong(nn.Module):
    def __init__(self, feature_dim, class_stats):
        super().__init__()
        self.classifier = nn.Linear(feature_dim, class_stats.num_classes)
    def forward(self, embeddings, labels=None):
        logits = self.classifier(embeddings)
        return {returned}
"""
NETWORK = """
from torch import nn
class Wrong(nn.Module):
    def __init__(self{arguments}):
        super().__init__()
        {made}
    def forward(self, batch):
        return {returned}
"""
READER = """
from fer_lightning.data.manifest import Manifest, make_rows
def Wrong(root, classes):
    return {returned}
"""
PLAIN = "self.num_features = 4"


def network(returned: str, made: str = PLAIN, arguments: str = "") -> str:
    return NETWORK.format(returned=returned, made=made, arguments=arguments)


MISTAKES = {
    "no file": ("loss", "", "there is no module 'wrong'"),
    "no class": ("loss", "x = 1", "has no attribute 'Wrong'"),
    "no Python": ("loss", "def Wrong(:", "(wrong.py, line 1)"),
    "a file that fails": ("loss", "from torch import nn\n1 / 0", "division by zero (wrong.py, line 2)"),
    "no callable": ("loss", "Wrong = 1", "not a callable"),
    "head without class_stats": ("loss", "def Wrong(feature_dim): ...", "must take (feature_dim, class_stats)"),
    "head that is none": ("loss", "def Wrong(feature_dim, class_stats): ...", "must make a torch.nn.Module"),
    "head of its own opinion": ("loss", HEAD.format(returned="logits"), "must return a HeadOutput, not Tensor"),
    "head with a mean": (
        "loss",
        HEAD.format(returned="HeadOutput(logits, None if labels is None else logits.mean())"),
        "must return per_sample (N,): (9,) for 9 embeddings, not ()",
    ),
    "head with a term's mean": (
        "loss",
        HEAD.format(returned="HeadOutput(logits, None if labels is None else logits[:, 0], {'a': logits.mean()})"),
        "must return terms['a'] (N,): (9,) for 9 embeddings, not ()",
    ),
    "head without losses": ("loss", HEAD.format(returned="HeadOutput(logits)"), "not NoneType"),
    "head that asks for labels": (
        "loss",
        HEAD.format(returned="HeadOutput(logits, logits[:, 0])"),
        "no per_sample",
    ),
    "head that fails": ("loss", HEAD.format(returned="embeddings @ embeddings"), "RuntimeError"),
    "where it fails": ("loss", HEAD.format(returned="embeddings @ embeddings"), "(wrong.py, line 10)"),
    "backbone without a width": ("backbone", network("batch", made="pass"), "with num_features"),
    "backbone of another width": ("backbone", network("batch[:, 0, 0, :3].float()"), "(2, 3)"),
    "backbone that wants floats": ("backbone", network("nn.Linear(48, 4)(batch)"), "(wrong.py, line 8)"),
    "neck without feature_dim": ("neck", network("batch"), "must take (feature_dim)"),
    "neck without a width": (
        "neck",
        network("batch", made="pass", arguments=", feature_dim"),
        "with num_features",
    ),
    "weights of another number": ("class_weights", "def Wrong(counts): return [1.0]", "8 positive numbers"),
    "weights that are negative": ("class_weights", "def Wrong(counts): return [-n for n in counts]", "8 positive"),
    "weights that are none": ("class_weights", "def Wrong(counts): return 'many'", "class_weights: wrong.Wrong"),
    "sampler of other arguments": ("sampler", "def Wrong(labels): ...", "must take (labels, generator, progress)"),
    "sampler of pictures": (
        "sampler",
        "def Wrong(labels, generator, progress): return labels + 1",
        "must return an array of indices",
    ),
    "mixing of pictures alone": (
        "mixing",
        "def Wrong(): return lambda images, labels: images",
        "mixing: wrong.Wrong",
    ),
    "mixing of other shapes": (
        "mixing",
        "def Wrong(): return lambda images, labels: (images[:1], labels)",
        "must return images and labels of the shapes it gets",
    ),
    "mixing that is none": ("mixing", "def Wrong(): ...", "mixing: wrong.Wrong"),
    "reader without classes": ("data", "def Wrong(root): ...", "must take root and classes"),
    "reader of nothing": ("data", READER.format(returned="None"), "must return a Manifest"),
    "reader that fails": ("data", READER.format(returned="open('/nowhere')"), "(wrong.py, line 4)"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_trained(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group, code, said = MISTAKES[kind]
    above = {"data": "defaults: [_defaults, _self_]\n", "class_weights": "defaults: [none, _self_]\n"}
    write(tmp_path, group, f"{above.get(group, '')}_target_: wrong.Wrong\n", "wrong")
    if code:
        (tmp_path / "wrong.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fer_lightning.data.dataset.prepare", lambda *_, **__: pytest.fail("faces were prepared"))
    monkeypatch.setattr(
        "fer_lightning.data.synthetic.generate.generate", lambda *_, **__: pytest.fail("faces were drawn")
    )
    assert run_main(["--config-dir", "conf", f"{group}=wrong"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"fer: {group}:")
    assert said in line


def test_an_own_data_set_without_the_shared_keys_is_told_the_word_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "data", "_target_: wrong.Wrong\nroot: null\nclasses: [happy, sad]\n", "wrong")
    (tmp_path / "wrong.py").write_text(READER.format(returned="None"))
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir", "conf", "data=wrong"]
    for code in (run_main(words), main.main(["doctor", ".", *words])):
        assert code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"fer: data\.\w+: is not set; begin .* with `defaults: \[_defaults, _self_\]`", line)


def test_a_sweep_tries_every_own_loss_before_it_trains_the_first(tmp_path: Path) -> None:
    write(tmp_path, "loss", "_target_: wrong.Wrong\n", "wrong")
    (tmp_path / "wrong.py").write_text(HEAD.format(returned="logits"))
    with pytest.raises(UserError, match="must return a HeadOutput"):
        try_out_own([compose([f"loss={loss}"], str(tmp_path / "conf")) for loss in ("softmax", "wrong")])


def test_an_own_schedule_moves_the_learning_rate(tmp_path: Path) -> None:
    (tmp_path / "mine_schedule.py").write_text("def halves(progress):\n    return 1 - progress / 2\n")
    write(tmp_path, "schedule", "_target_: mine_schedule.halves\nwarmup: 0.0\n")
    config = compose(["schedule=mine", "optimizer.lr=0.4"], str(tmp_path / "conf"))
    check(config)
    assert config["schedule"]["_source_"]
    stage, *_ = build.stages(config).values()
    parameters = Network(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer, schedule = build.recipe(config, stage).build(parameters, 11)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.4, *(0.4 * (1 - k / 20) for k in range(10))])


def test_an_own_schedule_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine_other.py").write_text("def fails(progress):\n    return 1 / 0\n")
    write(tmp_path, "schedule", "_target_: mine_other.fails\nwarmup: 0.0\n")
    config = compose(["schedule=mine"], str(tmp_path / "conf"))
    stage, *_ = build.stages(config).values()
    with pytest.raises(
        UserError, match=r"schedule: ZeroDivisionError: division by zero \(mine_other.py, line 2\)"
    ):
        build.recipe(config, stage)

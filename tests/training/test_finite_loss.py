"""A loss that is not finite ends a run in one line, which names step, terms and samples; what was kept stays."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from processes import HANGING
from pytorch_lightning import LightningModule, Trainer
from runs import Started

from fer_lightning.config.compose import compose
from fer_lightning.data import dataset
from fer_lightning.evaluation.results import CHECKPOINT
from fer_lightning.run import build, claim
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.training import trainer as trainer_module
from fer_lightning.training.callbacks.epoch_log import EpochLine
from fer_lightning.training.callbacks.finite_loss import FiniteLoss, _Batch
from fer_lightning.training.trainer import LAST

CODE = """
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fer_lightning.core.contracts import HeadOutput
from fer_lightning.data.manifest import Manifest, make_rows


class Grey(nn.Module):
    '''Sees a picture as its grey in the middle, which no transform changes.'''

    num_features = 2

    def __init__(self):
        super().__init__()
        self.trained = nn.Parameter(torch.ones(1))

    def forward(self, images):
        grey = images[:, 0, images.shape[2] // 2, images.shape[3] // 2].float()
        return torch.stack([grey, self.trained * grey / 255], 1)


class Head(nn.Module):
    '''Cross-entropy that from batch ``start`` on is not finite for some greys, or else in its penalty.'''

    shown = []  # the greys of every batch it was trained with

    def __init__(self, feature_dim, class_stats, *, start, spoilt, spoilt_minival, value):
        super().__init__()
        self.classifier = nn.Linear(feature_dim - 1, class_stats.num_classes)
        self.start, self.spoilt, self.value = start, spoilt, float(value)
        self.spoilt_minival = spoilt_minival

    def forward(self, embeddings, labels=None):
        logits = self.classifier(embeddings[:, 1:])
        if labels is None:
            return HeadOutput(logits)
        greys = embeddings[:, 0].round().int()
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        extra, penalty = torch.zeros_like(cross_entropy), 0.0
        if not self.training and len(self.shown) >= self.start:
            extra[torch.isin(greys, torch.tensor(self.spoilt_minival, dtype=torch.int))] = self.value
        if self.training:
            self.shown.append(greys.tolist())
            if len(self.shown) > self.start:
                extra[torch.isin(greys, torch.tensor(self.spoilt, dtype=torch.int))] = self.value
                penalty = 0.0 if self.spoilt else extra.new_tensor(self.value)
        return HeadOutput(logits, cross_entropy + extra, {"plain": cross_entropy, "extra": extra}, penalty)


def read(root, classes):
    paths = sorted(path.relative_to(root) for path in Path(root).rglob("*.png"))
    rows = {
        "id": [path.as_posix() for path in paths],
        "path": [path.as_posix() for path in paths],
        "label": [path.parts[1] for path in paths],
        "split": [path.parts[0] for path in paths],
    }
    return Manifest("greys", Path(root), make_rows(rows), tuple(classes))


def twice(labels, generator, progress):
    order = np.roll(generator.permutation(len(labels)), round(5 * progress))
    return np.repeat(order, 2)
"""

OPTIONS = {
    "backbone": "_target_: unsound.Grey\n",
    "sampler": "_target_: unsound.twice\n",
    "loss": "_target_: unsound.Head\nstart: 0\nspoilt: []\nspoilt_minival: []\nvalue: nan\n",
    "data": """
defaults: [_defaults, _self_]
test_split: test
_target_: unsound.read
root: faces
classes: [happy, sad]
size: 16
codec: png
batch_size: 16
minival: 0.2
""",
}
TRAIN, BATCH = 150, 16
STEPS = TRAIN * 4 // 5 // BATCH
WORDS = ["--config-dir", "conf", "backbone=greys", "loss=greys", "data=greys", "neck=identity", "stage.epochs=3"]
ALL = [*range(TRAIN)]
SOME = [*range(0, TRAIN, 7)]
RUNS = {
    "pictures": ["stage=fine_tuning"],
    "cached": ["stage=feature_extraction"],
    "views": ["stage=feature_extraction", "stage.feature_extraction.views=2"],
    "not cached": ["stage=feature_extraction", "stage.feature_extraction.cached=false"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a loss of their own that fails, and pictures that are grey, each another."""
    folder = tmp_path_factory.mktemp("unsound")
    (folder / "unsound.py").write_text(CODE)
    for group, text in OPTIONS.items():
        (folder / "conf" / group).mkdir(parents=True)
        (folder / "conf" / group / "greys.yaml").write_text(text)
    for grey in range(TRAIN + 20):
        place = folder / "faces" / ("train" if grey < TRAIN else "test") / ("happy", "sad")[grey % 2]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{grey}.png"), np.full((16, 16, 3), grey, np.uint8))
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process in the user's folder; what it imports from there is forgotten afterwards."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("unsound", None)


Fail = Callable[..., str]


@pytest.fixture
def fail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> Fail:
    """Train a run that fails. Returns the line that a user sees, after checking that what was kept stays."""
    kept: dict[str, bytes] = {}

    def note(self: EpochLine, trainer: Trainer, pl_module: LightningModule) -> None:
        kept.update({path.name: path.read_bytes() for path in tmp_path.glob("*.ckpt")})

    def fail(*words: str, start: int, spoilt: list[int], late: int = 0) -> str:
        monkeypatch.setattr(EpochLine, "on_train_epoch_start", note)
        monkeypatch.setattr(trainer_module, "FiniteLoss", lambda stage, last, **_: FiniteLoss(stage, last, late))
        how = [f"loss.start={start}", f"loss.spoilt={spoilt}"]
        assert run_main(["--directory", str(tmp_path), *WORDS, *how, *words]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.ckpt")} == kept
        assert not (tmp_path / "result.json").exists()
        assert not [each for each in recwarn if "nan" in str(each.message)]
        return line

    return fail


def shown() -> list[list[int]]:
    """The greys in each batch that the loss was asked for in training, in order."""
    greys: list[list[int]] = importlib.import_module("unsound").Head.shown
    return greys


def named(line: str) -> list[str]:
    """The samples that a line names, and the dots after them."""
    return re.search(r" samples: (.*?);", line)[1].split(", ")  # type: ignore[index]


def in_store(greys: list[int]) -> list[str]:
    """What the store says of pictures that have these greys."""
    store = dataset.store(compose(WORDS[2:], "conf"))
    train = store.split("train")
    rows = {int(train.image(row)[0, 0, 0]): row for row in range(len(train))}
    return [f"{train.ids[rows[grey]]} ({store.classes[train.labels[rows[grey]]]})" for grey in greys]


def check_kept(directory: Path) -> None:
    """Both checkpoints are those of the first epoch, and finite."""
    for name in (CHECKPOINT, LAST):
        checkpoint = torch.load(directory / name, weights_only=True)
        assert checkpoint["epoch"] == 0
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.mark.parametrize(
    ("kind", "parts", "late"),
    [("pictures", 2, 0), *((kind, parts, late) for kind in RUNS for parts, late in ((1, 0), (2, 1)))],
)
def test_the_samples_are_named_whose_losses_are_not_finite(
    fail: Fail, tmp_path: Path, kind: str, parts: int, late: int
) -> None:
    words = RUNS[kind]
    start = STEPS * parts + 1
    line = fail(f"trainer.accumulate={parts}", *words, start=start, spoilt=SOME, late=late)
    first = next(index for index, greys in enumerate(shown()) if index >= start and {*greys} & {*SOME})
    assert len(shown()) == first + 1 + late
    spoilt = [grey for grey in shown()[first] if grey in SOME]
    assert named(line) == in_store(spoilt)
    assert f"not finite for {len(spoilt)} of {BATCH // parts} samples: " in line
    step, part = divmod(first - STEPS * parts, parts)
    stage = words[0].partition("=")[2]
    micro = f", micro-batch {part + 1} of 2" if parts == 2 else ""
    assert line.startswith(
        f"fer: {stage}: step {step + 1} of {STEPS} in epoch 2 of 3{micro}: the loss is nan (plain "
    )
    assert line.endswith(
        f"; lower optimizer.lr or loss.weight; the state after epoch 1 is kept: {tmp_path / LAST}"
    )
    check_kept(tmp_path)


@pytest.mark.parametrize("late", [0, 1])
def test_five_samples_are_named_each_once(fail: Fail, late: int) -> None:
    steps = 2 * STEPS + 1  # as many pictures, each twice
    start = steps + 4
    line = fail("stage=fine_tuning", "sampler=greys", start=start, spoilt=ALL, late=late)
    assert f": step 5 of {steps} in epoch 2 of 3: " in line
    assert f"not finite for {BATCH} of {BATCH} samples: " in line
    assert named(line) == [*in_store([*dict.fromkeys(shown()[start])][:5]), "..."]


def test_the_terms_show_what_is_not_finite(fail: Fail) -> None:
    line = fail("stage=fine_tuning", "loss.value=inf", start=STEPS, spoilt=ALL)
    assert re.search(r": the loss is inf \(plain \d\S*, extra inf, penalty 0\), not finite for 16 of 16 ", line)


def test_a_penalty_that_is_not_finite_is_no_samples_fault(fail: Fail) -> None:
    line = fail("stage=fine_tuning", start=STEPS, spoilt=[])
    assert re.search(r"\(plain \d\S*, extra 0, penalty nan\), not finite for 0 of 16 samples; lower", line)


def test_in_the_first_epoch_nothing_is_kept(fail: Fail, tmp_path: Path) -> None:
    line = fail("stage=fine_tuning", start=2, spoilt=ALL)
    assert f": step 3 of {STEPS} in epoch 1 of 3: " in line
    assert line.endswith("; lower optimizer.lr or loss.weight")
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("late", [0, 1])
def test_an_epochs_last_step_is_looked_at_before_anything_is_validated(
    fail: Fail, tmp_path: Path, caplog: pytest.LogCaptureFixture, late: int
) -> None:
    with caplog.at_level(logging.INFO):
        line = fail("stage=fine_tuning", start=2 * STEPS - 1, spoilt=ALL, late=late)
    assert f": step {STEPS} of {STEPS} in epoch 2 of 3: " in line
    assert "epoch 1 of 3" in caplog.text
    assert "epoch 2 of 3" not in caplog.text
    check_kept(tmp_path)


def test_a_stages_last_step_is_looked_at_also_in_the_middle_of_an_epoch(fail: Fail, tmp_path: Path) -> None:
    line = fail("stage=fine_tuning", f"trainer.max_steps={STEPS + 2}", start=STEPS + 1, spoilt=ALL, late=1)
    assert f": step 2 of {STEPS} in epoch 2 of 3: " in line
    check_kept(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_single_loss_of_the_minival_that_is_not_finite_ends_the_run(
    fail: Fail, tmp_path: Path, value: str
) -> None:
    """Where every training loss was finite: no score of such a network is compared with others."""
    words = ["stage=fine_tuning", f"loss.value={value}", f"loss.spoilt_minival={SOME}"]
    line = fail(*words, start=2 * STEPS, spoilt=[])
    assert line == (
        f"fer: fine_tuning: epoch 2 of 3: the loss on the minival is {value}; lower optimizer.lr or loss.weight"
        f"; the state after epoch 1 is kept: {tmp_path / LAST}"
    )
    check_kept(tmp_path)


def test_a_run_that_goes_on_names_the_samples_as_well(fail: Fail) -> None:
    how = {"start": STEPS + 2, "spoilt": ALL}
    assert f": step 3 of {STEPS} in epoch 2 of 3: " in fail("stage=fine_tuning", **how)
    line = fail("stage=fine_tuning", **how)  # its head has been asked so often already
    assert f": step 1 of {STEPS} in epoch 2 of 3: " in line
    assert len(shown()) == STEPS + 4
    assert named(line) == [*in_store(shown()[-1][:5]), "..."]


def test_all_ranks_end_and_the_one_with_the_sample_names_it(folder: Path, tmp_path: Path) -> None:
    how = [f"loss.start={STEPS}", "loss.spoilt=[31]", "stage=fine_tuning", "trainer=ddp_cpu"]
    place = ["--config-dir", str(folder / "conf"), f"data.root={folder / 'faces'}"]  # it stands elsewhere
    run = Started([*place, *WORDS[2:], *how], tmp_path / "run")
    assert run.process.wait(HANGING) == 1, run.said()
    (line,) = [line for line in run.said().splitlines() if line.startswith("fer: ")]
    assert named(line) == in_store([31])
    assert f"not finite for 1 of {BATCH // 2} samples" in line
    assert re.search(r", rank \d of 2: ", line)
    assert line == f"fer: {claim.read_failure(tmp_path / 'run')}"
    assert "Traceback" not in run.said()
    check_kept(tmp_path / "run")


@pytest.mark.parametrize(("trainer", "late"), [("cpu", 0), ("gpu", 1)])
def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trainer: str, late: int) -> None:
    monkeypatch.setattr(trainer_module, "Trainer", SimpleNamespace)
    config = compose([f"trainer={trainer}"])
    name, stage = next(iter(build.stages(config).items()))
    made = build.trainer(config).trainer(stage, name, tmp_path, False, [], 0, lambda _: None)
    assert [each.delay for each in made.callbacks if isinstance(each, FiniteLoss)] == [late]


def test_what_comes_from_a_gpu_is_read_when_it_is_there() -> None:
    failures = torch.zeros(1, dtype=torch.int)
    arrives = SimpleNamespace(synchronize=lambda: failures.fill_(1))
    assert _Batch(0, {}, failures, cast(torch.cuda.Event, arrives)).failed

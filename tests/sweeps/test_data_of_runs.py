"""A sweep looks at the data set once: its runs are handed the prepared faces, and belong to these very faces."""

import shutil
from pathlib import Path

import cv2
import pytest
from bad_files import face
from runs import SMALL, Outcome, fer

from fer_lightning.sweeps.run_sweep import Sweep

CLASSES = ("happy", "sad")
WORDS = [
    *(word for word in SMALL if not word.startswith(("data.rows", "data.test_per_class"))),
    *("data=folder", f"data.classes=[{','.join(CLASSES)}]", "data.codec=raw", "data.workers=0"),
    *("stage=feature_extraction", "stage.epochs=1"),
]


def put(root: Path, seed: int = 0) -> Path:
    for split, count in (("train", 20), ("test", 4)):
        for label in CLASSES:
            for number in range(count):
                file = root / split / label / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), face(seed, 32))
                seed += 1
    return root


def sweep(root: Path, folder: Path) -> Outcome:
    return fer("train", "-m", *WORDS, f"data.root={root}", "seed=0,1", f"hydra.sweep.dir={folder}")


def results(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/result.json")}


def test_runs_look_at_the_prepared_faces_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path / "set")
    train = Sweep.train

    def without_the_set(self: Sweep) -> None:
        shutil.rmtree(root)
        train(self)

    monkeypatch.setattr(Sweep, "train", without_the_set)
    outcome = sweep(root, tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert len(results(tmp_path / "runs")) == 2


def test_other_pictures_are_other_runs_and_the_same_elsewhere_are_not(tmp_path: Path) -> None:
    root = put(tmp_path / "set")
    assert sweep(root, tmp_path / "runs").code == 0
    first = results(tmp_path / "runs")
    shutil.copytree(root, tmp_path / "copy")
    copied = sweep(tmp_path / "copy", tmp_path / "runs")
    assert "all 2 runs are complete, nothing is trained" in copied.out
    put(root, seed=5000)
    replaced = sweep(root, tmp_path / "runs")
    assert replaced.code == 0
    assert "have changed since they were prepared" in replaced.out
    assert len(results(tmp_path / "runs")) == 4
    assert first < results(tmp_path / "runs")

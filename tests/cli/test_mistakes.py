"""A user's mistakes: one clear line, an exit code that is not 0, and nothing trained."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from layouts import put_ferplus
from runs import SMALL

from fer_lightning.cli import main
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.run.__main__ import main as run_main


class Mistake:
    """Runs a command in this process and holds what a user would see."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.capsys = capsys
        self.folder = folder
        monkeypatch.chdir(folder)

        def no_child(*_: object, **__: object) -> subprocess.Popen[str]:
            raise AssertionError("a child process was started")

        monkeypatch.setattr("fer_lightning.run.launch.child", no_child)
        monkeypatch.setattr("fer_lightning.run.launch.fork", no_child)

    def line(self, code: int) -> str:
        """The one line, after checking that there is just one and that nothing was written."""
        lines = self.capsys.readouterr().err.strip().splitlines()
        assert code == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("fer: ")
        assert "Traceback" not in lines[0]
        assert not list(self.folder.rglob("best.ckpt"))
        assert not list(self.folder.rglob("result.json"))
        return lines[0]

    def fer(self, *words: str) -> str:
        """What `fer` says before it starts any child."""
        return self.line(main.main(words))

    def run(self, *words: str) -> str:
        """What the child says that a run is trained in."""
        return self.line(run_main(words))


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mistake:
    return Mistake(capsys, monkeypatch, tmp_path)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where data is prepared although it is not at fault."""

    def prepared(*_: object) -> None:
        raise AssertionError("data was prepared")

    monkeypatch.setattr("fer_lightning.data.dataset.store", prepared)


def test_unknown_command(mistake: Mistake) -> None:
    assert "no command 'trian'" in mistake.fer("trian")


def test_misspelt_key_on_the_command_line(mistake: Mistake) -> None:
    line = mistake.fer("train", "loss=cluster", "loss.wieght=1")
    assert "loss.wieght" in line
    assert "weight" in line.replace("wieght", "")


def test_misspelt_key_in_a_sweep(mistake: Mistake) -> None:
    assert "optimizer.lrr" in mistake.fer("train", "-m", "loss=softmax,center", "optimizer.lrr=1,2")


def test_a_loss_that_takes_no_soft_labels(mistake: Mistake, no_data: None) -> None:
    put_ferplus(mistake.folder / "set")
    words = ("data=ferplus", "data.root=set", "data.soft_labels=true", "backbone=tiny", "loss=cluster")
    line = mistake.run(*words)
    assert "data.soft_labels=true: ClusterHead takes class indices only" in line


def test_unknown_loss(mistake: Mistake) -> None:
    line = mistake.fer("train", "loss=foccal")
    assert "foccal" in line
    assert "cluster" in line


def test_unknown_loss_in_a_sweep(mistake: Mistake) -> None:
    assert "foccal" in mistake.fer("train", "-m", "loss=softmax,foccal", "seed=0,1")


def test_a_sweep_without_its_flag(mistake: Mistake) -> None:
    assert "-m" in mistake.fer("train", "loss=softmax,center")


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lr=abc", "optimizer.lr='abc'"),
        ("loss.weight=-1", "loss.weight=-1: must be greater than or equal to 0"),
        ("loss.center_update=sometimes", "loss.center_update"),
        ("stage.epochs=0", "stage.epochs=0: must be greater than or equal to 1"),
        ("stage.fine_tuning.freeze=-99", "freeze=-99"),
        (
            "stage.fine_tuning.freeze=layer9",
            "give none, all, -1 or a block of resnet18: stem, layer1, layer2, layer3",
        ),
        ("optimizer.ema_decay=2", "optimizer.ema_decay=2: must be less than 1"),
        ("optimizer.part_lr.neck=0", "optimizer.part_lr.neck=0: must be greater than 0"),
        ("schedule.warmup=2", "schedule.warmup=2: must be less than or equal to 1"),
        ("stage.feature_extraction.views=-1", "views=-1: must be greater than or equal to 0"),
        ("data.batch_size=many", "data.batch_size='many'"),
        ("trainer.devices=two", "trainer.devices='two'"),
        ("class_weights.normalise=sometimes", "class_weights.normalise"),
        ("seed=zero", "seed='zero'"),
        ("seed=-1", "seed=-1: must be greater than or equal to 0"),
        ("optimizer.lr=-1", "optimizer.lr=-1: must be greater than 0"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1: must be greater than or equal to 0"),
        ("trainer.gradient_clip=-1", "trainer.gradient_clip=-1: must be greater than 0"),
        ("trainer.threads=0", "trainer.threads=0: must be greater than or equal to 1"),
        ("data.workers=-2", "data.workers=-2: must be greater than or equal to 0"),
        ("data.classes=[happy,happy]", "data.classes=['happy', 'happy']: happy is there twice"),
        ("data.classes=[]", "data.classes=[]: List should have at least 2 items"),
    ],
)
def test_a_wrong_value(mistake: Mistake, word: str, said: str) -> None:
    assert said in mistake.run(*SMALL, "loss=cluster", "class_weights=none", word)


@pytest.mark.usefixtures("no_data")
def test_a_samplers_wrong_number(mistake: Mistake) -> None:
    assert "sampler.q=7: must be less than or equal to 1" in mistake.run(*SMALL, "sampler=power", "sampler.q=7")


@pytest.mark.usefixtures("no_data")
def test_misspelt_key_in_a_users_yaml(mistake: Mistake) -> None:
    options = mistake.folder / "mine" / "loss"
    options.mkdir(parents=True)
    (options / "mine.yaml").write_text("_target_: fer_lightning.losses.cluster.ClusterHead\nwieght: 0.5\n")
    line = mistake.run("--config-dir", str(options.parent), *SMALL, "loss=mine")
    assert "loss.wieght" in line
    assert "did you mean weight?" in line


@pytest.mark.usefixtures("no_data")
def test_weights_that_do_not_fit(mistake: Mistake) -> None:
    other = TimmBackbone("resnet18", mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.save(other.network.state_dict(), mistake.folder / "other.pt")
    line = mistake.run("backbone=mobilenetv1_vggface2", f"backbone.weights={mistake.folder / 'other.pt'}")
    assert "do not fit" in line
    assert "other.pt" in line


@pytest.mark.usefixtures("no_data")
def test_weights_that_are_not_there(mistake: Mistake) -> None:
    line = mistake.run("backbone=seresnet50_vggface2", "backbone.weights=/nowhere/senet50.safetensors")
    assert "/nowhere/senet50.safetensors" in line
    assert "no such file" in line


@pytest.mark.usefixtures("no_data")
def test_weights_that_are_not_given(mistake: Mistake) -> None:
    assert "backbone.weights is not set" in mistake.run("backbone=seresnet50_vggface2")


@pytest.mark.usefixtures("no_data")
def test_a_checkpoint_that_is_not_there(mistake: Mistake) -> None:
    assert "no such file" in mistake.fer("evaluate", "nowhere/best.ckpt")


class Code:
    """What a malicious checkpoint would hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.usefixtures("no_data")
def test_a_checkpoint_that_carries_code(mistake: Mistake) -> None:
    trace = mistake.folder / "it-ran"
    torch.save({"state_dict": {}, "fer_lightning": Code(trace)}, mistake.folder / "evil.ckpt")
    assert "refused" in mistake.fer("evaluate", str(mistake.folder / "evil.ckpt"))
    (mistake.folder / "plain.ckpt").write_bytes(pickle.dumps(Code(trace)))
    assert "evil" not in mistake.fer("evaluate", str(mistake.folder / "plain.ckpt"))
    assert not trace.exists()


def test_a_wrong_root(mistake: Mistake) -> None:
    line = mistake.run("data=affectnet", "data.root=/nowhere/AffectNet")
    assert "/nowhere/AffectNet" in line


def test_no_root(mistake: Mistake) -> None:
    assert "data.root" in mistake.run("data=affectnet")


def test_a_csv_without_a_needed_column(mistake: Mistake) -> None:
    lists = mistake.folder / "set" / "Manually_Annotated_file_lists"
    lists.mkdir(parents=True)
    (mistake.folder / "set" / "Manually_Annotated_Images").mkdir()
    for name in ("training", "validation"):
        header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,valence,arousal"
        (lists / f"{name}.csv").write_text(f"{header}\n1/a.jpg,0,0,9,9,,0,0\n")
    line = mistake.run("data=affectnet", f"data.root={mistake.folder / 'set'}")
    assert "expression" in line
    assert ".csv" in line


def test_a_class_with_no_images(mistake: Mistake) -> None:
    line = mistake.run(*SMALL, "data.classes=[neutral,happy,bored]")
    assert "bored" in line


def test_an_unknown_table(mistake: Mistake) -> None:
    assert "embedded" in mistake.fer("table", "run", "embeded")


def test_a_folder_without_results(mistake: Mistake) -> None:
    assert "result" in mistake.fer("table", "show", str(mistake.folder))

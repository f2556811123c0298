"""``fer cache``: what is listed, what is taken away, and what is not."""

import json
from pathlib import Path

import pytest

from fer_lightning.cli import main
from fer_lightning.core.files import home, locked


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with something of each kind, a half-trained stage and a file that was being written."""
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "kept"))
    files = {
        "stores/ferplus-1234/store.json": json.dumps(
            {"counts": {"train": {"happy": 30, "fear": 2}, "test": {"happy": 5}}}
        ),
        "stores/ferplus-1234/train-00000.arrow": "x" * 5000,
        "stores/ferplus-1234.lock": "",
        "embeddings/abc/about.txt": "train, FERPlus, mobilenetv1_100, 32 x 1024",
        "embeddings/abc/embeddings.npy": "x" * 2_400_000,
        "embeddings/half/about.txt": "minival",
        "activations/abd/about.txt": "train, view 1 of 2, FERPlus, mobilenetv1_100, 32 x 7 x 7 x 512, 1.61MB",
        "activations/abd/activations.npy": "x",
        "stages/def/stage.json": json.dumps(
            {"name": "feature_extraction", "epochs": 8, "minival_macro_recall": 0.6123}
        ),
        "stages/training/last.ckpt": "x",
        "weights/tiny-12.safetensors": "x",
        "synthetic/999/parameters.json": json.dumps({"rows": 803, "seed": 0}),
        "synthetic/.777.ab_c.partial/face.png": "x",
    }
    for name, text in files.items():
        path = home() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return home()


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main.main(["cache", *words]) == code
    outcome = capsys.readouterr()
    return outcome.out if code != 2 else outcome.err


def test_everything_is_listed_in_words(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "list")
    assert str(kept) in text
    for words in (
        "32 train faces, 5 test faces",
        "train, FERPlus, mobilenetv1_100, 32 x 1024",
        "train, view 1 of 2, FERPlus, mobilenetv1_100, 32 x 7 x 7 x 512, 1.61MB",
        "feature_extraction, 8 epochs, minival macro recall 61.2",
        "tiny-12",
        "803 drawn training faces, seed 0",
        "half written",
        "2.40MB",
    ):
        assert words in text, words
    assert text.count("not finished") == 2  # an entry of embeddings, a stage


def test_one_kind_is_listed(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "list", "stages")
    assert "feature_extraction" in text
    assert "FERPlus" not in text


def test_a_kind_is_cleared_and_the_others_stay(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "embeddings: 2 cleared, 2.40MB" in said(capsys, "clear", "embeddings")
    assert [*(kept / "embeddings").glob("[!.]*[!k]")] == []
    assert (kept / "stores/ferplus-1234/train-00000.arrow").exists()


def test_all_is_cleared_but_what_somebody_is_making(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(kept / "stages/training"), locked(kept / "synthetic/777"):
        text = said(capsys, "clear", "all", code=1)
    assert f"{kept / 'stages/training'} is in use and stays" in text
    assert sorted(path.name for path in kept.rglob("*") if path.is_file() and path.suffix != ".lock") == [
        "face.png",
        "last.ckpt",
    ]
    assert "stages: 1 cleared" in said(capsys, "clear", "all")
    assert not [path for path in kept.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("words", [["clear"], ["clear", "embedings"], ["list", "faces"]])
def test_a_kind_that_is_not_there_or_not_said_is_one_line(
    kept: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert "synthetic, stores, weights, embeddings, activations, stages" in said(capsys, *words, code=2)
    assert (kept / "embeddings/abc/embeddings.npy").exists()


def test_an_empty_cache_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "nothing"))
    assert "stages" in said(capsys, "list")
    assert said(capsys, "clear", "all").count("0 cleared") == 6

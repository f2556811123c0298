"""``fer predict``: rows of the faces in pictures, videos and tables; what cannot be read says so."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from runs import SMALL, Outcome, fer, result

from fer_lightning import load_model
from fer_lightning.cli.predict import models_and_sources
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.store.crop import Pixels
from fer_lightning.inference import checkpoint as files
from fer_lightning.inference import predict_sources
from fer_lightning.inference.detectors import Found
from fer_lightning.inference.framing import training_faces
from fer_lightning.inference.row_files import row_file, to_stdout
from fer_lightning.inference.sources import Picture, Sources
from fer_lightning.run import export_checkpoint

FRAMED = ["data.size=40", "data.crop=32", "data.margin=0.3", "data.codec=jpeg"]


class Reds:
    """Finds every red rectangle."""

    name = "reds"

    def __call__(self, picture: Pixels) -> list[Found]:
        red = ((picture[..., 2] > 150) & (picture[..., 1] < 90)).astype(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(red)
        return [Found(*(float(value) for value in box[:4]), 0.9) for box in boxes[1:] if box[4] > 100]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    learning = ["optimizer.lr=0.01", "stage.epochs=1", "stage.fine_tuning.epochs=3", "seed=3"]
    done = fer("train", *SMALL, *FRAMED, *learning, f"hydra.run.dir={folder}")
    assert done.code == 0, done.out + done.err
    return folder


@pytest.fixture(autouse=True)
def reds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_sources, "load_detector", lambda name: Reds())


def scene(*corners: tuple[int, int]) -> Pixels:
    """A grey picture with red squares of different sizes."""
    pixels = np.full((240, 320, 3), 100, np.uint8)
    for number, (x, y) in enumerate(corners):
        pixels[y : y + 40 + 5 * number, x : x + 40 + 5 * number] = (0, 0, 200)
    return pixels


def photo(path: Path, *corners: tuple[int, int]) -> Path:
    cv2.imwrite(str(path), scene(*corners))
    return path


def video(path: Path, frames: int, rate: float = 25.0) -> Path:
    """A face in every frame but the first; it moves to the right."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (320, 240))
    assert writer.isOpened()
    for n in range(frames):
        writer.write(scene((10 + 4 * (n % 50), 50)) if n else scene())
    writer.release()
    return path


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def predicted(*words: Any, code: int = 0) -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        done = fer("predict", *map(str, words), "--to", f"{folder}/rows.csv")
        assert done.code == code, done.out + done.err
        rows = table((Path(folder) / "rows.csv").read_text())
    assert all(row["p"] or row["note"] for row in rows)
    return rows


def told(done: Outcome) -> str:
    assert done.code == 2, done.out
    assert done.err.count("\n") == 1
    return done.err


def test_all_faces_of_a_picture_and_the_largest(run: Path, tmp_path: Path) -> None:
    picture = photo(tmp_path / "five.png", (10, 10), (80, 20), (160, 30), (240, 40), (60, 150))
    rows = predicted(run, picture)
    assert [row["face"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["w"] for row in rows] == ["60", "55", "50", "45", "40"]
    (largest,) = predicted(run, picture, "--faces", "largest")
    assert (largest["w"], largest["label"]) == ("60", rows[0]["label"])
    expected = load_model(run).predict(picture, crop=(60, 150, 60, 60))  # the run's framing is of boxes
    assert (largest["label"], float(largest["p"])) == (expected.label, pytest.approx(expected.probability))


def test_a_picture_without_a_face_says_so(run: Path, tmp_path: Path) -> None:
    picture = photo(tmp_path / "empty.png")
    (row,) = predicted(run, picture)
    assert row["note"] == "no face"
    assert not any(row[key] for key in row if key not in ("source", "note"))
    assert table(fer("predict", str(run), str(picture), "--crop", "none").out)[0]["p"]  # CSV where nobody reads it


def test_pictures_of_all_kinds(run: Path, tmp_path: Path) -> None:
    """Grey, with alpha, 16 bits, turned by EXIF: as the model itself reads them."""
    kinds = {
        "rgb.png": Image.fromarray(scene((50, 60))[..., ::-1]),
        "rgba.png": Image.fromarray(scene((50, 60))[..., ::-1]).convert("RGBA"),
        "grey.png": Image.fromarray(scene((50, 60))[..., ::-1]).convert("L"),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
    cv2.imwrite(str(tmp_path / "deep.png"), scene((50, 60)).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(scene((50, 60))[..., ::-1])  # shown turned to the right
    Image.fromarray(np.ascontiguousarray(turned)).save(
        tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0
    )
    rows = {Path(row["source"]).name: row for row in predicted(run, tmp_path)}
    assert rows["grey.png"]["note"] == "no face"
    for name in ("rgba.png", "deep.png"):
        assert {**rows[name], "source": ""} == {**rows["rgb.png"], "source": ""}
    assert [float(rows["turned.jpg"][key]) for key in "xywh"] == pytest.approx([50, 60, 40, 40], abs=1)
    model = load_model(run)
    for row in predicted(run, tmp_path, "--crop", "none"):
        assert row["x"] == ""
        assert float(row["p"]) == pytest.approx(model.predict(row["source"]).probability)


def test_a_sets_own_boxes_give_the_tests_predictions(run: Path, tmp_path: Path) -> None:
    faces = dataset.manifest(result(run)["config"])
    known = {row["id"]: row for row in faces.rows.to_pylist()}
    expected = pq.read_table(run / "predictions.parquet").to_pylist()
    lines = ["path;X;y;w;h"]  # as some programs export tables
    for row in (known[row["id"]] for row in expected):
        lines.append(f"{faces.root / row['path']};{row['x']};{row['y']};{row['width']};{row['height']}")
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    done = fer("predict", str(run), str(tmp_path / "faces.csv"), "--to", str(tmp_path / "out.parquet"))
    assert (done.code, done.out, done.err) == (0, "", "")  # no detector, and nothing that would be assumed
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(rows) == len(expected) == 24
    for row, test in zip(rows, expected, strict=True):
        assert row["label"] == test["prediction"]
        names = [name for name in test if name.startswith("p_")]
        assert [row[name] for name in names] == pytest.approx([test[name] for name in names], abs=1e-6)
        assert row["face_score"] is None


def test_a_sample_of_the_training_faces(run: Path) -> None:
    faces = dataset.manifest(result(run)["config"])
    boxes = {
        (row["x"], row["y"], row["width"], row["height"])
        for row in faces.rows.to_pylist()
        if row["split"] == "train"
    }
    sample = list(training_faces(faces, 12))
    assert len(sample) == 12
    assert {box for _, box in sample} <= boxes
    assert all(picture[y : y + h, x : x + w].size == 3 * w * h for picture, (x, y, w, h) in sample)
    everything = len([row for row in faces.rows.to_pylist() if row["split"] == "train"])
    assert sum(1 for _ in training_faces(faces, 10**6)) == everything


def test_what_cannot_be_read_is_a_row_and_the_code_is_one(run: Path, tmp_path: Path) -> None:
    photo(tmp_path / "good.png", (50, 60))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines = [
        "good.png,50,60,40,40",
        "missing.png,1,2,3,4",
        "good.png,900,900,4,4",
        "good.png,1,2,x,4",
        "good.png,1",
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,x,y,w,h", *lines, ",1,2,3,4", "good.png,,,,"]))
    rows = predicted(run, tmp_path / "t.csv", tmp_path, code=1)
    notes = {row["note"].removeprefix("unreadable: ") for row in rows}
    assert len(rows) == 10
    assert [row["note"] == "" for row in rows].count(True) == 3  # the last row of the table has its face found
    for words in ("no such file", "is outside of it", "in numbers", "2 cells instead of 5", "without a path"):
        assert any(words in note for note in notes), words
    assert any("not a picture" in note for note in notes)
    assert any("not a video" in note for note in notes)


@pytest.mark.parametrize("name", ["film.mp4", "film.avi"])
def test_frames_of_a_video(run: Path, tmp_path: Path, name: str) -> None:
    film = video(tmp_path / name, 10, rate=20)
    rows = predicted(run, film)
    assert [row["frame"] for row in rows] == [str(n) for n in range(10)]
    assert [float(row["time_s"]) for row in rows] == pytest.approx([n / 20 for n in range(10)])
    assert rows[0]["note"] == "no face"
    assert [float(row["x"]) for row in rows[1:]] == pytest.approx([10 + 4 * n for n in range(1, 10)], abs=2)
    fourth = predicted(run, film, "--every", 4)
    shown = ("frame", "time_s", "x", "y", "label")
    assert [[row[key] for key in shown] for row in fourth] == [[row[key] for key in shown] for row in rows[::4]]


def test_a_video_that_breaks_off_is_told(run: Path, tmp_path: Path) -> None:
    film = video(tmp_path / "film.avi", 40)
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    rows = predicted(run, film, code=1)
    assert len(rows) > 5
    assert "unreadable" in rows[-1]["note"]


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = []
    for frames in (20, 200):
        film = video(tmp_path / f"{frames}.avi", frames)
        sources = Sources([str(film)])
        tracemalloc.start()
        assert sum(1 for picture in sources if picture.pixels is not None) == frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_rows_come_before_the_last_picture_is_read(run: Path, tmp_path: Path) -> None:
    """The whole way from pictures to rows holds no more than a batch."""
    from fer_lightning.inference.ensemble import Ensemble, Member
    from fer_lightning.inference.predict_faces import Choices, predict_faces

    read = 0

    def pictures() -> Iterator[Picture]:
        nonlocal read
        for read in range(1, 301):
            yield Picture("x.png", read, scene((50, 60)) if read % 3 else scene())

    ensemble = Ensemble([Member("m", load_model(run))])
    for done, _ in enumerate(predict_faces(pictures(), ensemble, Choices(detector=Reds(), batch=4)), 1):
        assert read - done < 7
    assert done == 300


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_file_is_readable_after_an_interruption(
    run: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        photo(tmp_path / f"{n}.png", (10 + n, 60))
    each = Sources.__iter__

    def interrupted(self: Sources) -> Iterator[Picture]:
        for picture in each(self):
            if picture.number == 6:
                raise KeyboardInterrupt
            yield picture

    monkeypatch.setattr(Sources, "__iter__", interrupted)
    target = tmp_path / f"out{ending}"
    done = fer("predict", str(run), str(tmp_path), "--to", str(target), "--batch", "2")
    assert done.code == 130
    assert done.err == f"fer: stopped after 4 rows; they are in {target}\n"
    assert [row["x"] for row in read_rows(target)] == [10, 11, 12, 13]


def read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [{**row, "x": float(row["x"])} for row in table(path.read_text())]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_each_row_is_on_the_disk_once_it_is_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"new/rows{ending}"
    with row_file(path, ["source", "x"]) as write:
        for n in range(3):
            write({"source": "ä, \n.png", "x": float(n)})
            assert len(read_rows(path)) == n + 1


def test_several_models_are_averaged(run: Path, tmp_path: Path) -> None:
    picture = photo(tmp_path / "one.png", (50, 60))
    checkpoint = files.read_checkpoint(run / "best.ckpt")
    bias = "network.head.classifier.bias"
    checkpoint["state_dict"][bias] = checkpoint["state_dict"][bias] + torch.arange(8.0)
    files.seal(checkpoint)
    files.write_checkpoint(checkpoint, tmp_path / "other.ckpt")
    (one,) = predicted(run, picture)
    (other,) = predicted(tmp_path / "other.ckpt", picture)
    (both,) = predicted(run, tmp_path / "other.ckpt", picture)
    names = [name for name in one if name.startswith("p_")]
    logs = np.log([[float(row[name]) for name in names] for row in (one, other)]).mean(0)
    assert [float(both[name]) for name in names] == pytest.approx(
        (np.exp(logs) / np.exp(logs).sum()).tolist(), abs=1e-6
    )
    checkpoint[files.CARD]["class_stats"]["names"][-1] = "calm"
    files.write_checkpoint(checkpoint, tmp_path / "calm.ckpt")
    said = told(fer("predict", str(run), str(tmp_path / "calm.ckpt"), str(picture)))
    assert "calm, contempt" in said


def test_options_change_what_they_say(run: Path, tmp_path: Path) -> None:
    picture = photo(tmp_path / "one.png", (50, 60))
    (row,) = predicted(run, picture)
    (unsure,) = predicted(run, picture, "--min-confidence", "1")
    assert unsure == {**row, "label": "not sure"}
    (corrected,) = predicted(run, picture, "--correct", "temperature")
    assert corrected["p"] != row["p"]
    (flipped,) = predicted(run, picture, "--flip")
    assert set(flipped) == set(row)
    (none,) = predicted(run, picture, "--min-face-score", "0.95")
    assert none["note"] == "no face"


def test_drawings_are_large_enough_to_read(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photo(tmp_path / "in/a.png", (50, 60))
    cv2.imwrite(str(tmp_path / "in/small.png"), cv2.resize(scene((50, 60)), (48, 36)))
    video(tmp_path / "in/film.avi", 3)
    predicted(run, tmp_path / "in", "--draw", tmp_path / "seen")
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["000001_a.jpg", *(f"000002_film_{n:06}.jpg" for n in range(3)), "000003_small.jpg"]
    for name in names:
        drawn = cv2.imread(str(tmp_path / "seen" / name))
        assert min(drawn.shape[:2]) >= 480
        labelled = (np.abs(drawn.astype(int) - (178, 114, 0)).max(2) < 40) | (
            np.abs(drawn.astype(int) - (0, 94, 213)).max(2) < 40
        )
        assert labelled.sum() > 500  # the ground of the label, in the colour of a face or of none


def test_what_is_assumed_of_boxes_is_said_once(run: Path, tmp_path: Path) -> None:
    photo(tmp_path / "1.png", (50, 60))
    photo(tmp_path / "2.png", (50, 60))
    assumed = "how boxes of reds compare with them was not fitted"
    assert fer("predict", str(run), str(tmp_path)).out.count(assumed) == 1
    assert assumed not in fer("predict", str(run), str(tmp_path), "--crop", "none").out
    checkpoint = files.read_checkpoint(run / "best.ckpt")
    checkpoint[files.CARD]["framing"]["detectors"] = {"reds": {"factor": 1.0, "dx": 0.0, "dy": 0.0, "faces": 99}}
    files.write_checkpoint(checkpoint, tmp_path / "fitted.ckpt")
    assert assumed not in fer("predict", str(tmp_path / "fitted.ckpt"), str(tmp_path)).out
    checkpoint[files.CARD]["protocol"]["data"] = "RAF-DB"
    files.write_checkpoint(checkpoint, tmp_path / "aligned.ckpt")
    assert "give --crop none" in fer("predict", str(tmp_path / "aligned.ckpt"), str(tmp_path)).out


class Middle:
    """Finds the middle of every picture."""

    name = "middle"

    def __call__(self, picture: Pixels) -> list[Found]:
        tall, wide = picture.shape[:2]
        return [Found(wide / 4, tall / 4, wide / 2, tall / 2, 0.9)]


def test_an_export_can_have_its_framing_fitted(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_checkpoint, "load_detector", lambda name: Middle())
    words = ("export", str(run), "--to", str(tmp_path / "model"), "--no-onnx", "--fit-framing", "middle")
    done = fer(*words)
    assert done.code == 0, done.out + done.err
    fitted = load_model(tmp_path / "model").framing.detectors["middle"]
    assert f"middle finds {fitted.faces} of" in done.out
    assert f"{fitted.factor:.2f} times" in done.out
    monkeypatch.setattr(Middle, "__call__", lambda self, picture: [])
    said = told(fer(*words[:3], str(tmp_path / "other"), *words[4:]))
    assert "middle finds the face in 0 of" in said
    assert not (tmp_path / "other").exists()


def test_models_come_first(run: Path, tmp_path: Path) -> None:
    models, sources = models_and_sources([str(run), str(run / "best.ckpt"), str(tmp_path), str(run)])
    assert models == [run, run / "best.ckpt"]
    assert sources == [str(tmp_path), str(run)]  # a model after a source is a source
    with pytest.raises(UserError, match="give a model, and after it"):
        models_and_sources([str(run)])


def test_mistakes_are_told_in_one_line(run: Path, tmp_path: Path) -> None:
    picture = photo(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no_path.csv").write_text("file,x\na,1\n")
    (tmp_path / "half.csv").write_text("path,x,y\na,1,2\n")
    for words, said in (
        ((tmp_path / "no.ckpt", picture), "no such file"),
        ((picture, picture), "is no checkpoint"),
        ((run, tmp_path / "no.png"), "no such file"),
        ((run, tmp_path / "*.tiff"), "no file has such a name"),
        ((run, tmp_path / "empty"), "no pictures or videos"),
        ((run, tmp_path / "no_path.csv"), "has no column 'path'"),
        ((run, tmp_path / "half.csv"), "has no column 'w'"),
        ((run, picture, "--every", "0"), "--every 0"),
        ((run, picture, "--min-confidence", "nan"), "--min-confidence nan"),
        ((run, picture, "--to", "rows.txt"), ".parquet"),
        ((run, tmp_path, "--draw", tmp_path / "seen/here"), "whose pictures are predicted"),
        ((run, picture, "--device", "tpu9"), "--device tpu9"),
        ((run, picture, "--correct", "temprature"), "did you mean temperature"),
    ):
        assert said in told(fer("predict", *map(str, words)))
    (tmp_path / "boxes.csv").write_text("path\none.png\n")
    same = (str(run), str(tmp_path / "boxes.csv"), "--to", str(tmp_path / "boxes.csv"))
    assert "is what is to be predicted" in told(fer("predict", *same))
    assert (tmp_path / "boxes.csv").read_text() == "path\none.png\n"
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be written" in told(
        fer("predict", str(run), str(picture), "--to", str(tmp_path / "folder.csv"))
    )


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    write = to_stdout(["source"])
    empty = dict.fromkeys(("frame", "face", "x", "y", "w", "h", "face_score", "label", "p"))
    write({**empty, "source": "a" * 90 + "/photo.png", "note": "no face"})
    box = {"x": 1.4, "y": 2.0, "w": 30.0, "h": 40.0}
    write({**empty, **box, "source": "film.mp4", "frame": 0, "face": 2, "label": "happy", "p": 0.5, "note": ""})
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["source", "frame", "face", "box", "label", "p"]
    assert first.startswith("...aaa")
    assert first.split()[-2:] == ["no", "face"]
    assert second.split() == ["film.mp4", "0", "2", "1", "2", "30", "40", "happy", "0.50"]

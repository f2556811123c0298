"""Faces with boxes in YOLO's text format."""

import cv2
import numpy as np
import pytest
from layouts import MIRROR, picture, put_yolo, text
from PIL import Image

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import yolo
from fer_lightning.data.split import with_test_split


def read(root, test_split="test", classes=EMOTIONS):
    return with_test_split(yolo.read(str(root), classes), test_split)


def faces(manifest):
    box = ("x", "y", "width", "height")
    return {
        row["id"]: (row["label"], row["split"], *(row[name] for name in box)) for row in manifest.rows.to_pylist()
    }


@pytest.mark.parametrize("test_split", ["test", "valid"])
def test_labels_go_by_name_and_boxes_are_pixels(tmp_path, test_split):
    put_yolo(tmp_path)
    ours = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert faces(read(tmp_path, test_split)) == {  # 60 x 40 pixels
        f"{name}/images/{number}.jpg": (label, split, 15, 0, 30, 20)
        for name, split in (("train", "train"), (test_split, "test"))
        for number, label in enumerate(ours)
    }


def test_names_by_key_and_other_names_of_folders(tmp_path):
    put_yolo(tmp_path)
    before = faces(read(tmp_path, "val"))
    (tmp_path / "valid").rename(tmp_path / "val")
    text(tmp_path / "data.yaml", "names:", *(f"  {number}: {name}" for number, name in enumerate(MIRROR)))
    assert faces(read(tmp_path, "validation")) == {k.replace("valid/", "val/"): v for k, v in before.items()}


def test_wrong_lines_and_files_are_set_aside(tmp_path):
    put_yolo(tmp_path)
    lines = {
        "two": ["0 0.25 0.5 0.1 0.5", "4 0.75 0.5 0.1 0.5"],
        "short": ["0 0.5 0.5 0.5"],
        "outline": ["0 0.1 0.1 0.2 1.2 0.3 0.3"],
        "confidence": ["0 0.5 0.5 0.5 0.5 0.9"],
        "nan": ["0 nan 0.5 0.5 0.5"],
        "pixels": ["0 30 20 10 10"],
        "thin": ["0 0.5 0.5 0.0001 0.5"],
        "number": ["8 0.5 0.5 0.5 0.5"],
        "empty": [""],
        "no_picture": ["0 0.5 0.5 0.5 0.5"],
        "broken": ["0 0.5 0.5 0.5 0.5"],
    }
    for name, text_lines in lines.items():
        text(tmp_path / f"train/labels/{name}.txt", *text_lines)
        if name != "no_picture":
            picture(tmp_path / f"train/images/{name}.jpg")
    (tmp_path / "train/images/broken.jpg").write_bytes(b"\xff\xd8")
    picture(tmp_path / "train/images/no_text.jpg")
    (tmp_path / "train/labels/binary.txt").write_bytes(b"0 \xff 0.5")
    picture(tmp_path / "train/images/binary.jpg")
    manifest = read(tmp_path)
    assert sorted((fault.kind, fault.path.rpartition("/")[2]) for fault in manifest.faults) == [
        ("missing", "no_picture.txt"),
        ("missing_annotation", "empty.jpg"),
        ("missing_annotation", "no_text.jpg"),
        ("unknown_label", "number.jpg"),
        ("unreadable", "broken.jpg"),
        ("unreadable_annotation", "binary.jpg"),
        *(("unusable_box", f"{name}.jpg") for name in ("confidence", "nan", "outline", "pixels", "short", "thin")),
    ]
    found = faces(manifest)
    assert found["train/images/two.jpg"] == ("anger", "train", 12, 10, 6, 20)
    assert found["train/images/two.jpg#2"] == ("happy", "train", 42, 10, 6, 20)
    assert len(found) == 18


def test_links_out_of_the_root_are_not_opened(tmp_path):
    put_yolo(tmp_path / "set")
    for kind, suffix in (("labels", "txt"), ("images", "jpg")):
        (tmp_path / "set/train" / kind / f"0.{suffix}").rename(tmp_path / f"0.{suffix}")
        (tmp_path / "set/train" / kind / f"0.{suffix}").symlink_to(tmp_path / f"0.{suffix}")
    manifest = read(tmp_path / "set")
    assert {(fault.kind, fault.path) for fault in manifest.faults} == {
        ("outside_root", "train/images/0.jpg"),
        ("outside_root", "train/labels/0.txt"),
    }
    assert "train/images/0.jpg" not in faces(manifest)


def test_a_turned_photograph(tmp_path):
    put_yolo(tmp_path)
    file = tmp_path / "train/images/0.jpg"
    with Image.open(file) as opened:
        turned = opened.copy()
        exif = opened.getexif()
        exif[yolo.ORIENTATION] = 6
    turned.save(file, exif=exif)
    assert cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR).shape == (60, 40, 3)  # as crops are cut
    assert faces(read(tmp_path))["train/images/0.jpg"] == ("anger", "train", 10, 0, 20, 30)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("nc: 8", "has no `names`"),
        ("names: [", "cannot be read: while parsing"),
        ("names: 3", "has no `names`"),
        ("names: [Happy, Wow]", r"no class 'neutral'; it has: happy; Wow names no class"),
        ("names: [Happy, Sad]", "YOLO has no class 'neutral'; it has: happy, sad"),
    ],
)
def test_names_that_say_nothing(tmp_path, said, what):
    put_yolo(tmp_path)
    text(tmp_path / "data.yaml", said)
    with pytest.raises(UserError, match=what):
        read(tmp_path)


def move_below(root):
    """images/train and labels/train, as Ultralytics has them, in place of train/images and train/labels."""
    for split, new in (("train", "train"), ("valid", "val"), ("test", "test")):
        for kind in ("images", "labels"):
            (root / kind).mkdir(exist_ok=True)
            (root / split / kind).rename(root / kind / new)
        (root / split).rmdir()


NAMES = f"names: [{', '.join(MIRROR)}]"


@pytest.mark.parametrize(
    "said",
    [
        ["names:", *(f"  {number}: {name}" for number, name in enumerate(MIRROR))],
        ["path: /another/machine/set", "train: images/train", "val: images/val", NAMES],
        ["path: ../datasets/set", "train: [images/train]", "val: images/val", "test:", NAMES],
        ["path: .", "train: ./images/train/", NAMES],
    ],
)
@pytest.mark.parametrize("name", ["data.yaml", "affectnet.yaml"])
def test_the_split_below_images(tmp_path, said, name):
    put_yolo(tmp_path / "set")
    before = faces(read(tmp_path / "set"))
    move_below(tmp_path / "set")
    (tmp_path / "set/data.yaml").unlink()
    text(tmp_path / "set" / name, *said)
    moved = {key.replace(f"{split}/images", f"images/{split}"): face for key, face in before.items()
             for split in ("train", "test") if key.startswith(split)}  # fmt: skip
    assert faces(read(tmp_path)) == moved
    assert "images/val/0.jpg" in faces(read(tmp_path, "val"))


@pytest.mark.parametrize(
    "said",
    [
        "train: ../faces/images",
        "path: faces\ntrain: images",
        "path: /another/machine/faces\ntrain: images",
        "train: faces",
        "path: {root}/faces\ntrain: images",
        "train: {root}/faces/images",
    ],
)
def test_folders_that_the_yaml_file_names(tmp_path, said):
    put_yolo(tmp_path)
    before = faces(read(tmp_path))
    (tmp_path / "train").rename(tmp_path / "faces")
    text(tmp_path / "data.yaml", *said.format(root=tmp_path).split("\n"), NAMES)
    assert faces(read(tmp_path)) == {key.replace("train/", "faces/"): face for key, face in before.items()}


def test_a_split_that_is_missing_or_twice_is_told(tmp_path, caplog):
    put_yolo(tmp_path)
    (tmp_path / "valid").rename(tmp_path / "other")
    text(tmp_path / "data.yaml", "train: train/images", "val: train/images", "test: test/images", NAMES)
    assert {row["split"] for row in yolo.read(str(tmp_path), EMOTIONS).rows.to_pylist()} == {"train", "test"}
    assert caplog.messages == [f"YOLO: val: train/images is no folder of its own in {tmp_path}; it is not read"]


def test_text_files_as_editors_and_tools_write_them(tmp_path):
    put_yolo(tmp_path)
    before = faces(read(tmp_path))
    for number, encoding in enumerate(("utf-8-sig", "utf-16", "utf-8")):
        (tmp_path / f"train/labels/{number}.txt").write_bytes(
            f"{number}.0 0.5 0.25 0.5 0.5\r\n\r\n".encode(encoding)
        )
    (tmp_path / "data.yaml").write_bytes(f"\ufeff{NAMES}\r\n".encode())
    assert faces(read(tmp_path)) == before


def test_outlines_and_key_points(tmp_path):
    put_yolo(tmp_path)
    before = faces(read(tmp_path))
    text(tmp_path / "train/labels/0.txt", "0 0.25 0 0.75 0.1 0.75 0.5 0.3 0.5")
    assert faces(read(tmp_path)) == before
    text(tmp_path / "train/labels/0.txt", "0 0.5 0.25 0.5 0.5 0.9 0.9 0.8 0.8")
    text(tmp_path / "data.yaml", "kpt_shape: [2, 2]", NAMES)
    assert faces(read(tmp_path)) == before

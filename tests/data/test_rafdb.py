"""RAF-DB in both copies."""

import pytest
from layouts import SEVEN, put_rafdb, put_rafdb_folders, text

from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import rafdb
from fer_lightning.data.split import with_test_split

LABELS = {1: "surprise", 2: "fear", 3: "disgust", 4: "happy", 5: "sad", 6: "anger", 7: "neutral"}


def found(root, classes=SEVEN):
    return [
        (r["path"], r["label"], r["split"])
        for r in with_test_split(rafdb.read(str(root), classes), "test").rows.to_pylist()
    ]


def test_the_authors_copy(tmp_path):
    put_rafdb(tmp_path)
    assert found(tmp_path) == [
        (f"Image/aligned/{split}_0{number}_aligned.jpg", label, split)
        for split in ("train", "test")
        for number, label in LABELS.items()
    ]


@pytest.mark.parametrize("above", ["", "DATASET/"])
def test_the_copy_with_folders(tmp_path, above):
    put_rafdb_folders(tmp_path, above)
    assert found(tmp_path) == [
        (f"DATASET/{split}/{number}/{split}_0{number}_aligned.jpg", label, split)
        for split in ("train", "test")
        for number, label in LABELS.items()
    ]


def test_what_is_wrong_is_set_aside(tmp_path):
    good = ["train_1.jpg 4", "test_1.jpg 4", ""]
    text(tmp_path / rafdb.LIST, *good, "train_2.jpg 8", "train_3.jpg", "../train_4.jpg 1", "other_5.jpg 1")
    manifest = rafdb.read(str(tmp_path), SEVEN)
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [
        ("unknown_label", "Image/aligned/train_2_aligned.jpg"),
        ("outside_root", ""),
        ("outside_root", "../train_4.jpg"),
        ("unknown_split", "Image/aligned/other_5_aligned.jpg"),
    ]
    assert manifest.rows["label"].to_pylist() == ["happy", "happy"]


def test_wrong_rows_of_the_copy_with_folders(tmp_path):
    put_rafdb_folders(tmp_path)
    text(tmp_path / "train_labels.csv", "image,label", "a.jpg,4", "b.jpg,../../x", "c.jpg,0", "/d.jpg,1", "e.jpg")
    manifest = rafdb.read(str(tmp_path), SEVEN)
    assert manifest.counts("train") == {name: int(name == "happy") for name in SEVEN}
    assert sorted((fault.kind, fault.path) for fault in manifest.faults) == [
        ("broken_line", "e.jpg"),
        ("outside_root", "/d.jpg"),
        ("unknown_label", "DATASET/train/0/c.jpg"),
        ("unknown_label", "b.jpg"),
    ]
    text(tmp_path / "train_labels.csv", "name,label", "a.jpg,4")
    with pytest.raises(UserError, match=r"train_labels\.csv has no column 'image'; it has: name, label"):
        rafdb.read(str(tmp_path), SEVEN)
    (tmp_path / "test_labels.csv").unlink()
    text(tmp_path / "train_labels.csv", "image,label", "a.jpg,4")
    with pytest.raises(UserError, match=r"no test_labels\.csv in"):
        rafdb.read(str(tmp_path), SEVEN)

"""RAF-DB in both copies."""

import pytest
from layouts import SEVEN, picture, put_rafdb, put_rafdb_folders, text

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
        ("broken_line", "train_3.jpg"),
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
    (tmp_path / "DATASET/test").rename(tmp_path / "DATASET/other")
    text(tmp_path / "train_labels.csv", "image,label", "a.jpg,4")
    with pytest.raises(UserError, match=r"no test_labels\.csv or folder test in"):
        rafdb.read(str(tmp_path), SEVEN)


@pytest.mark.parametrize("above", ["DATASET/", ""])
@pytest.mark.parametrize("tables", ["{split}_labels.csv", "DATASET/{split}/{split}_labels.csv", None])
def test_folders_by_number(tmp_path, above, tables):
    put_rafdb_folders(tmp_path)
    before = found(tmp_path)
    for split in ("train", "test"):
        if tables is None:
            (tmp_path / f"{split}_labels.csv").unlink()
        else:
            (tmp_path / f"{split}_labels.csv").rename(tmp_path / tables.format(split=split))
    if not above:
        for path in (tmp_path / "DATASET").iterdir():
            path.rename(tmp_path / path.name)
    assert sorted(found(tmp_path)) == sorted(
        (path.replace("DATASET/", above), label, split) for path, label, split in before
    )


def test_other_numbers_are_no_rafdb(tmp_path):
    put_rafdb_folders(tmp_path)
    for split in ("train", "test"):
        (tmp_path / f"{split}_labels.csv").unlink()
    picture(tmp_path / "DATASET/test/8/a.jpg")
    assert [(f.kind, f.path) for f in rafdb.read(str(tmp_path), SEVEN).faults] == [
        ("unknown_label", "DATASET/test/8/a.jpg")
    ]
    picture(tmp_path / "DATASET/train/0/a.jpg")
    with pytest.raises(UserError, match=r"no EmoLabel.* or folders train/1 to train/7 in"):
        rafdb.read(str(tmp_path), SEVEN)


def test_more_columns_in_the_list(tmp_path):
    put_rafdb(tmp_path)
    before = found(tmp_path)
    lines = (tmp_path / rafdb.LIST).read_text().splitlines()
    text(tmp_path / rafdb.LIST, "\ufeffname\tlabel\tage", *(line.replace(" ", "\t") + ".0\t2" for line in lines))
    assert found(tmp_path) == before


@pytest.mark.parametrize(
    ("pictures", "ending"),
    [("Image/aligned", ""), ("aligned", "_aligned"), ("aligned", ""), ("", ""), ("", "_aligned")],
)
@pytest.mark.parametrize("listed", rafdb.LISTS)
def test_places_of_the_authors_pictures(tmp_path, pictures, ending, listed):
    put_rafdb(tmp_path / "raf")
    before = found(tmp_path / "raf")
    (tmp_path / "raf" / rafdb.LIST).rename(tmp_path / "raf" / listed)
    for file in list((tmp_path / "raf/Image/aligned").iterdir()):
        new = tmp_path / "raf" / pictures / file.name.replace("_aligned", ending)
        new.parent.mkdir(exist_ok=True)
        file.rename(new)
    moved = found(tmp_path / "raf")
    assert [row[1:] for row in moved] == [row[1:] for row in before]
    assert all((tmp_path / "raf" / path).is_file() for path, _, _ in moved)


def test_whole_photographs_only(tmp_path):
    put_rafdb(tmp_path)
    (tmp_path / "Image/aligned").rename(tmp_path / "Image/original")
    for file in list((tmp_path / "Image/original").iterdir()):
        file.rename(file.with_name(file.name.replace("_aligned", "")))
    with pytest.raises(UserError, match=r"whole photographs in Image/original/ and no aligned faces; unpack"):
        rafdb.read(str(tmp_path), SEVEN)

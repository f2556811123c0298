"""AffectNet's CSV release, on made-up trees that copy its layouts and quirks."""

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import SCHEMA
from fer_lightning.data.readers import affectnet
from fer_lightning.data.split import with_test_split

HEADER = ",".join(affectnet.COLUMNS)
LANDMARKS = ";".join(["1.5"] * 136)


def line(path, expression=1, box=(10, 20, 30, 40), valence="0.5", arousal="-0.25"):
    return ",".join([path, *map(str, box), LANDMARKS, str(expression), valence, arousal])


def put(
    root: Path,
    train,
    test,
    *,
    header=(True, False),
    folder=".",
    names=("training.csv", "validation.csv"),
    pictures=affectnet.PICTURES,
):
    (root / folder).mkdir(parents=True, exist_ok=True)
    if pictures:
        (root / pictures).mkdir(parents=True, exist_ok=True)
    for name, lines, headed in zip(names, (train, test), header, strict=True):
        (root / folder / name).write_text("\n".join([HEADER, *lines] if headed else lines) + "\n")
    return str(root)


def read(root, classes=EMOTIONS, test_split="val", **more):
    return with_test_split(affectnet.read(root, classes, **more), test_split)


def rows(manifest):
    return {row["id"]: row for row in manifest.rows.to_pylist()}


def test_rows_follow_the_columns(tmp_path):
    root = put(tmp_path, [line("1/a.jpg"), line("2/b.PNG", 7)], [line("3/c.tif", 0, (0, 0, 9, 9))])
    calls = []
    manifest = read(root, progress=lambda *done: calls.append(done))
    assert manifest.rows.schema.equals(SCHEMA)
    assert manifest.rows["id"].to_pylist() == ["1/a.jpg", "2/b.PNG", "3/c.tif"]
    first = rows(manifest)["1/a.jpg"]
    assert {name: first[name] for name in ("path", "label", "split", "x", "y", "width", "height")} == {
        "path": "1/a.jpg", "label": "happy", "split": "train", "x": 10, "y": 20, "width": 30, "height": 40,
    }  # fmt: skip
    assert (first["valence"], first["arousal"], first["identity"]) == (0.5, -0.25, None)
    assert manifest.root == tmp_path / affectnet.PICTURES
    assert manifest.counts("test")["neutral"] == 1
    assert not manifest.redistributable
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize("header", [(True, True), (True, False), (False, False), (False, True)])
def test_header_or_none(tmp_path, header):
    manifest = read(put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")], header=header))
    assert manifest.rows["id"].to_pylist() == ["1/a.jpg", "3/c.jpg"]


def test_columns_go_by_name(tmp_path):
    put(tmp_path, [], [line("3/c.jpg")])
    shuffled = "expression,face_height,face_width,face_y,face_x,subDirectory_filePath,extra"
    (tmp_path / "training.csv").write_text(f"\ufeff{shuffled}\r\n4,40,30,20,10,1/a.jpg,?\r\n")
    row = rows(read(str(tmp_path)))["1/a.jpg"]
    assert (row["label"], row["x"], row["y"], row["width"], row["height"]) == ("fear", 10, 20, 30, 40)
    assert row["valence"] is None


def test_missing_column(tmp_path):
    put(tmp_path, [], [line("3/c.jpg")])
    (tmp_path / "training.csv").write_text("subDirectory_filePath,face_x,face_y,face_width,face_height,emotion\n")
    with pytest.raises(
        UserError, match=r"training\.csv has no column 'expression'; it has: .*face_height, emotion"
    ):
        read(str(tmp_path))


@pytest.mark.parametrize("folder", affectnet.CSV_FOLDERS)
@pytest.mark.parametrize(
    "names",
    [
        ("training.csv", "validation.csv"),
        ("Manually_training.csv", "validation.csv"),
        ("Manually_training.csv", "Manually_validation.csv"),
    ],
)
def test_csv_places_and_names(tmp_path, folder, names):
    assert len(read(put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")], folder=folder, names=names)).rows) == 2


@pytest.mark.parametrize("pictures", affectnet.PICTURE_FOLDERS)
def test_picture_folders(tmp_path, pictures):
    root = put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")], pictures=pictures)
    assert read(root).root == tmp_path / pictures


def test_the_folder_that_holds_a_picture_wins(tmp_path):
    root = put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")])
    full = tmp_path / "Manually_Annotated_compressed" / affectnet.PICTURES
    (full / "1").mkdir(parents=True)
    (full / "1" / "a.jpg").touch()
    plain = read(put(tmp_path / "plain", [line("1/a.jpg")], [line("3/c.jpg")]))
    manifest = read(root)
    assert manifest.root == full
    assert manifest.hash() == plain.hash()  # where the pictures lie is no part of what is trained on


def test_unusable_boxes_are_named_and_set_aside(tmp_path):
    boxes = {
        "null": ("NULL", "NULL", 5, 5),
        "negative": (1, 1, -5, 5),
        "zero": (1, 1, 5, 0),
        "text": (1, "", 5, 5),
        "huge": (1, 1, 10**12, 5),
    }
    train = [line(f"1/{name}.jpg", box=box) for name, box in boxes.items()]
    manifest = read(put(tmp_path, [*train, line("1/good.jpg", box=("-3", "4.0", 5, 6))], [line("3/c.jpg")]))
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [
        ("unusable_box", f"1/{name}.jpg") for name in boxes
    ]
    assert manifest.faults[0].detail == "face_x NULL, face_y NULL, face_width 5, face_height 5"
    good = rows(manifest)["1/good.jpg"]
    assert (good["x"], good["y"]) == (-3, 4)


def test_labels_outside_the_classes_are_counted(tmp_path):
    train = [line(f"1/{i}.jpg", code, valence="-2", arousal="-2") for i, code in enumerate([8, 8, 9, 10, 7, 1])]
    null_box = line("1/none.jpg", 10, box=("NULL",) * 4)
    manifest = read(put(tmp_path, [*train, null_box], [line("3/c.jpg", 0)]), ("neutral", "happy"))
    assert manifest.skipped["train"] == {"contempt": 1, "none": 2, "uncertain": 1, "non-face": 2}
    assert manifest.rows["label"].to_pylist() == ["happy", "neutral"]
    assert manifest.rows["valence"].to_pylist() == [None, 0.5]
    assert not manifest.faults


def test_unknown_codes_are_faults(tmp_path):
    manifest = read(put(tmp_path, [line("1/a.jpg", 11), line("1/b.jpg", "x"), line("1/c.jpg")], [line("3/c.jpg")]))
    assert [(f.kind, f.path, f.detail) for f in manifest.faults] == [
        ("unknown_label", "1/a.jpg", "expression 11"),
        ("unknown_label", "1/b.jpg", "expression x"),
    ]


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "1/../../x.jpg", "/etc/x.jpg", "1\\..\\..\\x.jpg", "C:\\x.jpg", ".."]
)
def test_paths_that_leave_the_root_are_faults(tmp_path, path):
    manifest = read(put(tmp_path, [line("1/a..b.jpg"), line(path)], [line("3/c.jpg")]))
    assert [fault.kind for fault in manifest.faults] == ["outside_root"]
    assert manifest.rows["path"].to_pylist() == ["1/a..b.jpg", "3/c.jpg"]


def test_a_row_without_a_path(tmp_path):
    manifest = read(put(tmp_path, [line("1/a.jpg"), line("")], [line("3/c.jpg")]))
    assert [fault.kind for fault in manifest.faults] == ["no_path"]


def test_repeated_paths_get_ids_of_their_own(tmp_path):
    train = [line("1/a.jpg"), line("1/b.jpg"), line("1/a.jpg", 2), line("1/a.jpg", box=("NULL",) * 4)]
    manifest = read(put(tmp_path, train, [line("1/a.jpg")]))
    assert manifest.rows["id"].to_pylist() == ["1/a.jpg", "1/b.jpg", "1/a.jpg#2", "1/a.jpg#4"]
    assert manifest.rows["path"].to_pylist() == ["1/a.jpg", "1/b.jpg", "1/a.jpg", "1/a.jpg"]
    assert manifest.faults[0].path == "1/a.jpg#3"


def test_broken_lines_are_faults(tmp_path):
    manifest = read(put(tmp_path, ["1/short.jpg,1,2", line("1/a.jpg")], [line("3/c.jpg")]))
    assert [(f.kind, f.path) for f in manifest.faults] == [("broken_line", "1/short.jpg")]
    assert manifest.faults[0].detail == "training.csv: 3 cells instead of 9"


@pytest.mark.parametrize(
    ("root", "said"), [(None, "no folder given; set data.root="), ("/nowhere/at/all", "is not a folder")]
)
def test_no_root(root, said):
    with pytest.raises(UserError, match=said):
        read(root)


def test_nothing_there(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(UserError, match=r"no training\.csv or Manually_training\.csv in .* it holds: readme\.txt"):
        read(str(tmp_path))
    with pytest.raises(UserError, match=r"no folder Manually_Annotated_Images in"):
        read(put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")], pictures=None))
    (tmp_path / "validation.csv").unlink()
    with pytest.raises(UserError, match=r"no validation\.csv"):
        read(str(tmp_path))


def test_files_that_are_no_csv(tmp_path):
    root = put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")])
    (tmp_path / "validation.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"validation\.csv has no column 'subDirectory_filePath'; it has: nothing"):
        read(root)
    (tmp_path / "validation.csv").write_bytes(HEADER.encode() + b"\n")
    with pytest.raises(UserError, match=r"validation\.csv has no row"):
        read(root)


def test_a_name_that_is_no_text_is_read_as_escapes(tmp_path):
    root = put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")])
    lines = [line("3/\xff.jpg").encode("latin1"), b"3/\xff.jpg,1", line("3/b.jpg").encode()]
    (tmp_path / "validation.csv").write_bytes(b"\n".join(lines) + b"\n")
    manifest = read(root)
    assert manifest.rows["path"].to_pylist() == ["1/a.jpg", "3/\\xff.jpg", "3/b.jpg"]
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [("broken_line", "3/\\xff.jpg")]


def test_test_split_and_classes_are_checked(tmp_path):
    root = put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")])
    with pytest.raises(UserError, match=r"no split 'test'.*data\.test_split=val"):
        read(root, test_split="test")
    with pytest.raises(UserError, match=r"no class 'boredom'; it has: neutral, happy"):
        read(root, ("neutral", "boredom"))


def test_a_long_file_is_read_without_python_objects_a_row(tmp_path):
    train = [line(f"{i % 1000}/{i:056x}.jpg", i % 11, valence="0.1") for i in range(20_000)]
    root = put(tmp_path, train, [line("3/c.jpg")])
    tracemalloc.start()
    manifest = read(root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(manifest.rows, pa.Table)
    assert peak < 2e6 + (tmp_path / "training.csv").stat().st_size  # its text is read ahead, in parts


@pytest.mark.parametrize("folder", affectnet.AUTOMATIC_FOLDERS)
@pytest.mark.parametrize("pictures", affectnet.AUTOMATIC_PICTURE_FOLDERS)
def test_the_automatic_part_is_an_option(tmp_path, folder, pictures):
    root = put(tmp_path, [line("1/a.jpg")], [line("3/c.jpg")])
    plain = read(root)
    with pytest.raises(UserError, match=r"no automatically_annotated\.csv in"):
        read(root, automatic=True)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    lines = [HEADER, line("1/a.jpg", 2), line("/etc/b.jpg"), line("1/d.jpg", 8)]
    (tmp_path / folder / "automatically_annotated.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="no folder Automatically_Annotated_Images"):
        read(root, automatic=True)
    (tmp_path / pictures).mkdir(parents=True)
    manifest = read(root, automatic=True)
    assert manifest.root == tmp_path
    assert [(row["id"], row["path"], row["label"], row["split"]) for row in manifest.rows.to_pylist()] == [
        (name, name, label, split)
        for name, label, split in (
            (f"{affectnet.PICTURES}/1/a.jpg", "happy", "train"),
            (f"{affectnet.PICTURES}/3/c.jpg", "happy", "test"),
            (f"{pictures}/1/a.jpg", "sad", "train"),
        )
    ]
    assert manifest.skipped == {"train": {"none": 1}, "test": {}}
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [("outside_root", "/etc/b.jpg")]
    assert read(root).hash() == plain.hash()


def test_paths_that_lead_out_are_refused_whether_links_are_followed_or_not(tmp_path):
    root = put(tmp_path, [line("1/a.jpg"), line("../b.jpg"), line("/c.jpg")], [line("3/d.jpg")])
    for follow_links in (False, True):
        manifest = read(root, follow_links=follow_links)
        assert [fault.kind for fault in manifest.faults] == ["outside_root", "outside_root"]
        assert manifest.rows["id"].to_pylist() == ["1/a.jpg", "3/d.jpg"]

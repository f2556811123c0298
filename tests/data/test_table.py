"""data=csv: any table with a row for each face, columns by their usual names or as they are named."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import EMOTIONS, SEVEN, picture, put_csv, put_folder, put_parquet, text

from fer_lightning.config.compose import Composer
from fer_lightning.core.emotions import EMOTIONS as NAMES
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.readers import auto, table
from fer_lightning.run.check_config import check

TWO = ("happy", "sad")


def put(root, *lines, name="faces.csv", pictures=("a.jpg", "b.jpg")):
    text(root / name, *lines)
    for path in pictures:
        picture(root / path)


def read(root, classes=None, **how):
    return table.read(str(root), classes, **how)


def rows(manifest, *names):
    return [tuple(row[name] for name in names) for row in manifest.rows.to_pylist()]


def test_every_column_by_its_usual_name(tmp_path, caplog):
    put(
        tmp_path,
        "Image Path;Emotion;Set;x;y;w;h;Subject_ID;Valence;AROUSAL;age",
        "a.jpg;Happiness;Training;1;2.4;10;20.0;p1;0.5;-2;30",
        "b.jpg;sad;testing;0;0;5;5;;-1;1e-1;31",
    )
    with caplog.at_level(logging.INFO):
        manifest = read(tmp_path)
    box = ("x", "y", "width", "height")
    assert rows(manifest, "id", "label", "split", *box, "identity", "valence") == [
        ("a.jpg", "happy", "train", 1, 2, 10, 20, "p1", 0.5),
        ("b.jpg", "sad", "test", 0, 0, 5, 5, None, -1),
    ]
    assert rows(manifest, "arousal") == [(None,), (pytest.approx(0.1),)]
    assert manifest.annotations == ("faces.csv",)
    assert caplog.messages[-1].startswith(
        "data=csv: faces.csv: path from Image Path, label from Emotion, split from Set"
    )
    assert caplog.messages[-1].endswith("; not read: age")


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("x,y,w,h", "3,4,10,20"),
        ("x,y,width,height", "3,4,10,20"),
        ("face_x,face_y,face_width,face_height", "3,4,10,20"),
        ("bbox_x,bbox_y,bbox_w,bbox_h", "3,4,10,20"),
        ("left,top,right,bottom", "3,4,13,24"),
        ("xmin,ymin,xmax,ymax", "3,4,13,24"),
        ("width,height,xmin,ymin,xmax,ymax", "640,480,3.2,3.9,13.1,24.4"),
        ("X1,Y1,X2,Y2", "3,4,13,24"),
    ],
)
def test_boxes(tmp_path, columns, values):
    put(tmp_path, f"file,label,{columns}", f"a.jpg,happy,{values}", "b.jpg,sad" + ",-1" * (columns.count(",") + 1))
    manifest = read(tmp_path)
    assert rows(manifest, "path", "x", "y", "width", "height") == [("a.jpg", 3, 4, 10, 20)]
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [("unusable_box", "b.jpg")]


def test_columns_as_they_are_named(tmp_path):
    put(tmp_path, "file,emo,set,where,l,t,r,b,label", "x.jpg,sad,test,a.jpg,1,2,3,4,happy")
    corners = {"left": "l", "top": "t", "right": "r", "bottom": "b"}
    manifest = read(tmp_path, columns={"path": "where", "label": "emo", "split": None, **corners})
    assert rows(manifest, "path", "label", "split", "x", "width") == [("a.jpg", "sad", "train", 1, 2)]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"pth": "file"}, r"data\.columns: 'pth' is nothing that is read \(did you mean path\?\); it takes path"),
        ({"path": "fil"}, r"data\.columns\.path=fil: .*faces\.csv has no such column \(did you mean file\?\)"),
        ({"left": "x", "top": "y"}, r"data\.columns: a box is x, y, width, height or left, top, right, bottom"),
        ({"path": None}, r"has no column for the picture's path by a usual name; it has: file, emotion; say"),
    ],
)  # fmt: skip
def test_mistakes_in_columns(tmp_path, columns, what):
    put(tmp_path, "file,emotion", "a.jpg,sad")
    with pytest.raises(UserError, match=what):
        read(tmp_path, table="faces.csv", columns=columns)


def test_pixels_are_another_readers(tmp_path):
    put(tmp_path, "emotion,pixels", "1,1 2 3")
    with pytest.raises(UserError, match=r"no column for the picture's path .*data=fer2013 reads pictures"):
        read(tmp_path, table="faces.csv")


@pytest.mark.parametrize(
    ("name", "said", "lies"),
    [
        ("faces.csv", "a.jpg", "a.jpg"),
        ("faces.csv", "./a.jpg", "a.jpg"),
        ("faces.csv", "images/1/a.jpg", "images/1/a.jpg"),
        ("faces.csv", "images\\1\\a.jpg", "images/1/a.jpg"),
        ("faces.csv", "a.jpg", "images/a.jpg"),
        ("faces.csv", "a", "images/train/a.png"),
        ("lists/faces.csv", "a.jpg", "lists/a.jpg"),
        ("lists/faces.csv", "images/a.jpg", "images/a.jpg"),
        ("lists/faces.csv", "../images/a.jpg", "images/a.jpg"),
        ("lists/faces.csv", "{root}/images/a.jpg", "images/a.jpg"),
        ("faces.csv", "images//./a.jpg", "images/a.jpg"),
    ],
)
def test_where_pictures_lie(tmp_path, name, said, lies):
    put(tmp_path, "file,label", f"{said.format(root=tmp_path)},sad", name=name, pictures=[lies])
    assert rows(read(tmp_path, table=name), "id", "path") == [(lies, lies)]


def test_paths_that_lead_out(tmp_path):
    outside = ["../b.jpg", "/etc/b.jpg", "C:\\b.jpg", "images/../../b.jpg"]
    put(tmp_path / "set", "file,label", "a.jpg,sad", ",sad", *(f"{path},sad" for path in outside))
    manifest = read(tmp_path / "set")
    assert [fault.kind for fault in manifest.faults] == ["no_path", *["outside_root"] * 4]
    assert rows(manifest, "path") == [("a.jpg",)]


def test_a_table_for_each_split(tmp_path):
    for split in ("train", "val", "test"):
        put(tmp_path, "file,label", f"{split}.jpg,sad", name=f"lists_{split}.csv", pictures=[f"{split}.jpg"])
    put(tmp_path, "class,number", "sad,3", name="classes.csv")
    by_name = [("test.jpg", "test"), ("train.jpg", "train"), ("val.jpg", "val")]
    assert rows(read(tmp_path), "path", "split") == by_name
    assert rows(read(tmp_path, table=["lists_val.csv"]), "path", "split") == [("val.jpg", "val")]
    put(tmp_path, "file,label", "a.jpg,sad", name="all.csv")
    with pytest.raises(UserError, match=r"several tables: all\.csv, lists_test\.csv, .*; say data\.table="):
        read(tmp_path)
    with pytest.raises(UserError, match=r"data\.table: no more\.csv in .*; it holds: .*all\.csv"):
        read(tmp_path, table="more.csv")


def test_a_table_without_labels_is_told(tmp_path):
    put(tmp_path, "file,label", "a.jpg,sad", name="train.csv")
    put(tmp_path, "file", "b.jpg", name="test.csv")
    manifest = read(tmp_path)
    assert rows(manifest, "path") == [("a.jpg",)]
    assert [(f.kind, f.path, f.detail) for f in manifest.faults] == [
        ("missing_annotation", "test.csv", "it has no column for the label by a usual name")
    ]


def test_labels_that_are_numbers(tmp_path):
    put(tmp_path, "file,label", "a.jpg,3.0", "b.jpg,4", "a.jpg,10")
    with pytest.raises(UserError, match=r"numbers 3, 4, 10, and nothing says .*'data\.labels=\{3: <class>,"):
        read(tmp_path)
    manifest = read(tmp_path, labels={"3": "happy", "4": "sad"})
    assert rows(manifest, "path", "label") == [("a.jpg", "happy"), ("b.jpg", "sad")]
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [("unknown_label", "a.jpg#2")]


def test_wrong_rows_are_set_aside(tmp_path):
    put(
        tmp_path,
        "file,label,split",
        "a.jpg,sad,train",
        "b.jpg,,train",
        "a.jpg,sad,elsewhere",
        "b.jpg",
        "b.jpg,fear,test",
    )
    manifest = read(tmp_path, ["sad"])
    assert rows(manifest, "id") == [("a.jpg",)]
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [
        ("broken_line", "b.jpg"),
        ("unknown_label", "b.jpg"),
        ("unknown_split", "a.jpg#2"),
    ]
    assert manifest.skipped == {"test": {"fear": 1}}
    assert list(manifest.left_out) == ["b.jpg"]


def test_names_come_before_numbers(tmp_path):
    put(tmp_path, "file,label,label_name", "a.jpg,1,sad")
    assert rows(read(tmp_path), "label") == [("sad",)]


@pytest.mark.parametrize("kind", ["text", "category", "numbers with names"])
def test_parquet(tmp_path, kind):
    labels = {"text": pa.array(["Sad", "happiness", None]), "numbers with names": pa.array([1, 0, None])}
    labels["category"] = labels["text"].dictionary_encode()
    box = {"x": [1.5, None, 1], "y": [1, 2, 3], "w": [9, 9, 9], "h": [9, 9, 9]}
    made = pa.table({"image": ["a.jpg", "b.jpg", "a.jpg"], "label": labels[kind], **box})
    if kind == "numbers with names":
        features = '{"info": {"features": {"label": {"names": ["happy", "sad"], "_type": "ClassLabel"}}}}'
        made = made.replace_schema_metadata({"huggingface": features})
    put(tmp_path)
    (tmp_path / "faces.csv").unlink()
    pq.write_table(made, tmp_path / "faces.parquet")
    manifest = read(tmp_path)
    assert rows(manifest, "path", "label", "x", "y") == [("a.jpg", "sad", 2, 1)]
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [
        ("unknown_label", "a.jpg#2"),
        ("unusable_box", "b.jpg"),
    ]
    assert auto.read(str(tmp_path), TWO).hash() == manifest.hash()


def test_other_layouts_come_first(tmp_path):
    put_csv(tmp_path / "plain")
    assert auto.read(str(tmp_path / "plain"), None).name == "csv"
    put_folder(tmp_path / "folders")
    put_csv(tmp_path / "folders")
    assert auto.read(str(tmp_path / "folders"), None).name == "folder"
    put_parquet(tmp_path / "bytes")
    put_csv(tmp_path / "bytes")
    assert auto.read(str(tmp_path / "bytes"), SEVEN).name == "parquet"
    assert read(tmp_path / "bytes", NAMES).counts("train") == dict.fromkeys(EMOTIONS, 1)


def test_the_same_file_names_as_another_layout(tmp_path):
    for name, path in (("training.csv", "a.jpg"), ("validation.csv", "b.jpg")):
        put(tmp_path, "file,label", f"{path},sad", name=name, pictures=[path])
    assert rows(auto.read(str(tmp_path), None), "path", "split") == [("a.jpg", "train"), ("b.jpg", "val")]


def test_files_that_are_no_tables(tmp_path):
    put(tmp_path, "file,label", "a.jpg,sad")
    (tmp_path / "b.csv").write_bytes(b"\x00\x01")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    assert rows(read(tmp_path), "path") == [("a.jpg",)]
    with pytest.raises(UserError, match=r"b\.csv cannot be read: it has zero bytes"):
        read(tmp_path, table="b.csv")
    with pytest.raises(UserError, match=r"c\.parquet cannot be read as parquet"):
        read(tmp_path, table="c.parquet")
    pq.write_table(pa.table({"path": [["a.jpg"]], "label": ["sad"]}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"c\.parquet cannot be read as a table of texts and numbers: Unsupported"):
        read(tmp_path, table="c.parquet")
    for name in (f"{tmp_path}/faces.csv", f"../{tmp_path.name}/faces.csv"):
        assert read(tmp_path, table=name).annotations == ("faces.csv",)
    text(tmp_path / "b.csv", "file,label")
    with pytest.raises(UserError, match=r"no picture of a known class in"):
        read(tmp_path, table="b.csv")


def test_from_a_config(tmp_path):
    lines = ["0;a.jpg;Train", "1;b.jpg;Train", "0;c.jpg;Test", "1;d.jpg;Test"]
    put(tmp_path, "emo;where;part of", *lines, pictures=["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    words = ["data=csv", f"data.root={tmp_path}", "data.table=faces.csv", "data.classes=[happy,sad]"]
    words += ["data.columns={path: where, label: emo, split: part of}", "data.labels={0: happy, 1: sad}"]
    config = Composer()(words)
    check(config)
    manifest = dataset.manifest(config)
    assert rows(manifest, "path", "label", "split") == [
        ("a.jpg", "happy", "train"),
        ("b.jpg", "sad", "train"),
        ("c.jpg", "happy", "test"),
        ("d.jpg", "sad", "test"),
    ]
    config["data"]["columns"] = {"path": 3}
    with pytest.raises(UserError, match=r"data\.columns\.path=3: must be a valid string"):
        check(config)

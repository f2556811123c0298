"""Text tables in every encoding and with every separator, for each reader of text."""

import pytest
from layouts import EMOTIONS, ENCODINGS, PUT, SEVEN, picture, put_folder, put_rafdb_folders, rewrite, text

from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import affectnet, fer2013, ferplus, folder, rafdb, table
from fer_lightning.data.readers.text_tables import SEPARATORS, list_rows, look_at, read_csv


def put_affectnet_without_headers(root):
    PUT["affectnet"](root)
    for file in root.glob("*.csv"):
        text(file, *file.read_text().splitlines()[1:])


def put_folder_with_labels(root):
    put_folder(root, names=SEVEN)
    picture(root / "train/happy/wrong.png")
    text(root / "labels.csv", "pth,label", "happy/wrong.png,sad")


SETS = {
    "affectnet": (PUT["affectnet"], affectnet, EMOTIONS),
    "affectnet without headers": (put_affectnet_without_headers, affectnet, EMOTIONS),
    "fer2013": (PUT["fer2013"], fer2013, SEVEN),
    "ferplus": (PUT["ferplus"], ferplus, EMOTIONS),
    "folder": (put_folder_with_labels, folder, SEVEN),
    "csv": (PUT["csv"], table, EMOTIONS),
    "rafdb": (PUT["rafdb"], rafdb, SEVEN),
    "rafdb with folders": (put_rafdb_folders, rafdb, SEVEN),
}
"""Writes, reads and names the classes of a set whose annotations are tables or lists."""


WRITTEN = [*((kind, separator) for kind in SETS for separator in SEPARATORS), ("rafdb", " ")]
"""Spaces separate the cells of lists only, and of the sets only RAF-DB has one."""


@pytest.mark.parametrize(("kind", "separator"), WRITTEN)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_separators(tmp_path, kind, separator, encoding):
    put, reader, classes = SETS[kind]
    put(tmp_path)
    plain = reader.read(str(tmp_path), classes)
    assert plain.rows.num_rows
    for file in [*tmp_path.rglob("*.csv"), *tmp_path.rglob("*.txt")]:
        rewrite(file, separator, encoding, "\r\n" if separator == ";" else "\n")
    manifest = reader.read(str(tmp_path), classes)
    assert manifest.hash() == plain.hash()
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [
        (fault.kind, fault.path) for fault in plain.faults
    ]


@pytest.mark.parametrize(
    "header",
    ['"Image";"Label";"More"', " image ; LABEL;", "'image';'label';x", "image;label;Image", "\n\nimage;label;x",
     "sep=;\nImage;Label;x"],
)  # fmt: skip
def test_headers(tmp_path, header):
    text(tmp_path / "a.csv", header, 'a,b.jpg;"3";x', "c.jpg;4", "", "d.jpg;5;y")
    faults = []
    table = read_csv(tmp_path / "a.csv", ("label", "image"), faults)
    assert table.to_pydict() == {"label": ["3", "5"], "image": ["a,b.jpg", "d.jpg"]}
    assert [(fault.path, fault.detail) for fault in faults] == [("c.jpg", "a.csv: 2 cells instead of 3")]


def test_the_separator_is_the_one_that_finds_the_columns(tmp_path):
    text(tmp_path / "a.csv", "image\tlabel (one; of; seven),by\tlabel", "a\tb\tc")
    assert look_at(tmp_path / "a.csv", ("image", "label")).separator == "\t"
    text(tmp_path / "b.csv", "name;1,5;2,5;3", "other;1,5;2,5;3")
    assert look_at(tmp_path / "b.csv", names=["a", "b", "c", "d"]).separator == ";"


def test_bytes_that_are_no_text_become_escapes(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"image;label\n\xff.jpg;\xe9\n")
    assert read_csv(tmp_path / "a.csv", ("image", "label"), []).to_pylist() == [
        {"image": "\\xff.jpg", "label": "\\xe9"}
    ]


def test_a_long_table_in_utf_16(tmp_path):
    lines = [f"é{number}.jpg,{number % 7}" for number in range(100_000)]
    text(tmp_path / "a.csv", "image,label", *lines)
    plain = read_csv(tmp_path / "a.csv", ("image", "label"), [])
    rewrite(tmp_path / "a.csv", ";", "utf-16-le")
    assert read_csv(tmp_path / "a.csv", ("image", "label"), []).equals(plain)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (
            b"image;emotion\n",
            r"no column 'label'; it has: image, emotion \(UTF-8, separated by semicolons\)",
        ),
        ("image emotion\n".encode("utf-16"), r"it has: image emotion \(UTF-16, separated by commas\)"),
        ("image,label\n".encode("utf-16-le"), r"cannot be read: it has zero bytes, as UTF-16 without"),
        (b"", r"it has: nothing"),
    ],
)
def test_what_was_found_is_told(tmp_path, data, what):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(UserError, match=what):
        read_csv(tmp_path / "a.csv", ("image", "label"), [])


def test_lists(tmp_path):
    for line in ("a.jpg 5", "a.jpg\t 5 ", "'a.jpg', \"5\"", "a.jpg|5", "\ufeffa.jpg   5"):
        text(tmp_path / "list.txt", line, "")
        assert list(list_rows(tmp_path / "list.txt")) == [["a.jpg", "5"]]
    with pytest.raises(UserError, match=r"none\.txt cannot be read: No such file"):
        list(list_rows(tmp_path / "none.txt"))

"""fer doctor on whole sets: what it counts, what it finds among copies, how it ends."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from bad_files import encoded, face, put
from layouts import PUT, picture, put_affectnet, put_ferplus, put_rafdb_folders

import fer_lightning
from fer_lightning.cli import main
from fer_lightning.config.compose import compose
from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.readers import folder
from fer_lightning.doctor.kinds import HARMLESS, MEANING

SEVEN = EMOTIONS[:7]
HAS = {
    "affectnet": (EMOTIONS, ("train", "val")),
    "affectnet_2021": (EMOTIONS, ("train", "val")),
    "fer2013": (SEVEN, ("train", "val", "test")),
    "ferplus": (EMOTIONS, ("train", "test")),
    "rafdb": (SEVEN, ("train", "test")),
    "yolo": (EMOTIONS, ("train", "val", "test")),
    "parquet": (SEVEN, ("train", "test")),
    "folder": (EMOTIONS, ("train", "test")),
    "csv": (EMOTIONS, ("train", "test")),
}
"""Classes and splits of the sets that PUT makes."""


def doctor(root, *words):
    """The exit code, and what is in the JSON file."""
    file = root.parent / "report.json"
    code = main.main(["doctor", str(root), "--json", str(file), *words])
    return code, json.loads(file.read_text())


def of_kind(found, kind):
    return [fault for fault in found["faults"] if fault["kind"] == kind]


def paths(found, kind):
    return [fault["path"] for fault in of_kind(found, kind)]


def put_folder(root, pictures):
    """A set of class-name folders with a picture a class and split, and further ones by path."""
    for split in ("train", "val", "test"):
        for name in EMOTIONS:
            pixels = face(sum(map(ord, split + name)) * 1000 + len(name))
            put(root / split / name / "first.png", encoded(pixels, ".png"))
    for path, data in pictures.items():
        put(root / path, data)
    return root


@pytest.mark.parametrize("option", PUT)
@pytest.mark.parametrize("named", [False, True])
def test_a_clean_set(tmp_path, option, named, capsys):
    PUT[option](tmp_path / "set")
    code, found = doctor(tmp_path / "set", *([f"data={option}"] if named else []))
    classes, splits = HAS[option]
    assert found["layout"] == option
    assert found["classes"] == list(classes)
    assert found["counts"] == found["usable"] == {split: dict.fromkeys(classes, 1) for split in splits}
    assert {fault["kind"] for fault in found["faults"]} <= {"tiny_face", "grey"}
    assert (code, found["spoils"], found["left_out"]) == (0, False, {})
    assert "Nothing that would spoil a result." in capsys.readouterr().out


def test_the_report_has_one_shape(tmp_path):
    put_affectnet(tmp_path / "set")
    _, found = doctor(tmp_path / "set", "data.classes=[happy,sad]")
    assert list(found) == [
        "layout", "root", "classes", "counts", "usable", "published", "left_out", "faults", "unread", "spoils",
        "notes",
    ]  # fmt: skip
    assert found["counts"] == {split: {"happy": 1, "sad": 1} for split in ("train", "val")}
    assert found["published"] == {"train": {"happy": 134415, "sad": 25459}, "val": {"happy": 500, "sad": 500}}
    assert sum(found["left_out"]["train"].values()) == 6
    assert all(set(fault) == {"kind", "path", "detail"} for fault in found["faults"])


def test_numbers_beside_the_published_ones(tmp_path, capsys):
    put_rafdb_folders(tmp_path / "set")
    assert doctor(tmp_path / "set")[1]["published"]["test"]["fear"] == 74
    out = capsys.readouterr().out
    assert "train  published  test  published" in out
    assert any(line.split() == ["happy", "1", "4,772", "1", "1,185"] for line in out.splitlines())


def test_copies_inside_a_split_spoil_nothing(tmp_path):
    same, other = encoded(face(1), ".png"), encoded(face(2))
    more = {f"train/happy/{name}.png": same for name in "cab"} | {"test/sad/b.jpg": other, "test/sad/c.jpg": other}
    code, found = doctor(put_folder(tmp_path / "set", more))
    assert (code, len(found["faults"])) == (0, 3)
    assert paths(found, "duplicate") == ["train/happy/b.png", "train/happy/c.png", "test/sad/c.jpg"]
    assert of_kind(found, "duplicate")[0]["detail"] == "happy; like train/happy/a.png (train, happy)"


def test_a_held_out_copy_is_told_once_with_all_its_twins(tmp_path):
    same = encoded(face(1), ".png")
    names = ["train/happy/a.png", "train/happy/b.png", "val/happy/c.png", "test/happy/d.png", "test/happy/e.png"]
    code, found = doctor(put_folder(tmp_path / "set", dict.fromkeys(names, same)))
    assert code == 1
    assert paths(found, "cross_split_duplicate") == names[2:]
    detail = of_kind(found, "cross_split_duplicate")[1]["detail"]
    assert all(told in detail for told in ("train/happy/a.png (train, happy)", "val/happy/c.png (val, happy)"))
    assert paths(found, "duplicate") == ["train/happy/b.png", "test/happy/e.png"]
    assert not of_kind(found, "labels_disagree")


def test_training_rows_that_are_copies_can_be_left_out(tmp_path):
    same, near = encoded(face(1), ".png"), [encoded(face(2), ".png"), encoded(face(2), ".jpg")]
    more = {"train/happy/a.png": same, "train/sad/b.png": same, "test/happy/c.png": same}
    more |= {"train/fear/d.png": near[0], "val/fear/e.jpg": near[1], "test/sad/f.png": encoded(face(3), ".png")}
    root, file = put_folder(tmp_path / "set", more), tmp_path / "copies.json"
    assert doctor(root, "--exclude", str(file))[0] == 1
    config = compose(["data=folder", f"data.root={root}", f"data.exclude={file}"])
    left = dataset.manifest(config)
    assert left.counts("train") == dict.fromkeys(EMOTIONS, 1)
    assert left.skipped["train"] == {"excluded": 3}
    assert left.counts("test") == {**dict.fromkeys(EMOTIONS, 1), "happy": 2, "sad": 2}
    assert left.hash() != dataset.manifest(compose(["data=folder", f"data.root={root}"])).hash()
    for text, said in (
        ("[]", "none of its 0 ids"),
        ("{", "cannot be read as a JSON list"),
        ("[1]", "read as"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            dataset.manifest(config)
    with pytest.raises(UserError, match="cannot be read"):
        dataset.manifest(compose(["data=folder", f"data.root={root}", "data.exclude=/nowhere.json"]))


def test_copies_of_the_two_held_out_parts(tmp_path):
    same = encoded(face(1), ".png")
    code, found = doctor(put_folder(tmp_path / "set", {"val/happy/a.png": same, "test/happy/b.png": same}))
    assert (code, paths(found, "cross_split_duplicate")) == (1, ["test/happy/b.png"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_that_disagree(tmp_path, split):
    same = encoded(face(1), ".png")
    more = {"train/happy/a.png": same, f"{split}/sad/b.png": same, f"{split}/sad/c.png": same}
    code, found = doctor(put_folder(tmp_path / "set", more))
    assert (code, paths(found, "labels_disagree")) == (1, ["train/happy/a.png"])
    assert len(of_kind(found, "cross_split_duplicate")) == (2 if split == "test" else 0)


@pytest.mark.parametrize(("split", "code"), [("train", 0), ("test", 1)])
def test_near_copies(tmp_path, split, code):
    pixels = face(1)
    moved = np.roll(pixels, 2, axis=1)
    altered = {
        "a.jpg": encoded(pixels, quality=30),
        "b.png": encoded((pixels * 0.8).astype(np.uint8), ".png"),
        "c.png": encoded(moved, ".png"),
    }
    more = {"train/happy/first of all.png": encoded(pixels, ".png")}
    more |= {f"{split}/happy/{name}": data for name, data in altered.items()}
    ended, found = doctor(put_folder(tmp_path / "set", more))
    assert ended == code
    kind = "near_duplicate" if split == "train" else "cross_split_near_duplicate"
    assert len(of_kind(found, kind)) == 3
    assert not of_kind(found, "duplicate")
    assert not of_kind(found, "cross_split_duplicate")


def test_an_identical_twin_is_no_near_one(tmp_path):
    same, altered = encoded(face(1), ".png"), encoded(face(1), quality=30)
    more = {"train/happy/a.png": same, "train/happy/b.jpg": altered, "test/happy/c.png": same}
    _, found = doctor(put_folder(tmp_path / "set", more))
    assert paths(found, "cross_split_duplicate") == ["test/happy/c.png"]
    assert not of_kind(found, "cross_split_near_duplicate")
    assert paths(found, "near_duplicate") == ["train/happy/b.jpg"]


def test_flat_pictures_are_alike_only_when_they_are_equal(tmp_path):
    shades = [encoded(np.full((64, 64, 3), value, np.uint8), ".png") for value in (10, 10, 60, 200)]
    more = {f"train/happy/{k}.png": data for k, data in enumerate(shades)}
    code, found = doctor(put_folder(tmp_path / "set", more))
    assert (code, paths(found, "duplicate")) == (0, ["train/happy/1.png"])
    assert not of_kind(found, "near_duplicate")


def test_what_is_compared_is_the_face(tmp_path):
    root = tmp_path / "set"
    put_affectnet(root)
    whole = face(1, 100)
    other = face(2, 100)
    other[30:70, 20:60] = whole[30:70, 20:60]
    for name, pixels in (("ahappy", whole), ("bhappy", other)):
        put(root / f"Manually_Annotated_Images/1/{name}.jpg", encoded(pixels, ".png"))
    for name in ("training", "validation"):
        file = root / f"{name}.csv"
        file.write_text(file.read_text().replace("happy.jpg,5,5,20,20", "happy.jpg,20,30,40,40"))
    code, found = doctor(root)
    assert (code, paths(found, "cross_split_duplicate")) == (1, ["1/bhappy.jpg"])
    assert doctor(root, "data.margin=0.1")[0] == 0


def test_a_class_without_a_picture(tmp_path):
    root = put_folder(tmp_path / "set", {"val/fear/first.png": b""})
    code, found = doctor(root)
    assert code == 1
    assert of_kind(found, "empty_class") == [
        {"kind": "empty_class", "path": "val", "detail": "no usable picture of fear"}
    ]
    assert (found["counts"]["val"]["fear"], found["usable"]["val"]["fear"]) == (1, 0)


def test_a_class_that_the_set_does_not_have(tmp_path):
    put_affectnet(tmp_path / "set")
    for file in (tmp_path / "set").rglob("*contempt.jpg"):
        file.unlink()
    for file in (tmp_path / "set").glob("*.csv"):
        file.write_text("".join(line for line in file.read_text().splitlines(True) if "contempt" not in line))
    code, found = doctor(tmp_path / "set")
    assert (code, of_kind(found, "empty_class")) == (0, [])
    assert found["counts"]["train"]["contempt"] == 0
    assert "No picture of contempt in any split: set data.classes=[...] without it." in found["notes"]


def test_a_set_of_grey_pictures_is_told_in_one_line(tmp_path):
    root = tmp_path / "set"
    put_ferplus(root)
    for k, file in enumerate(sorted(root.rglob("*.png"))):
        put(file, encoded(face(k)[:, :, 0], ".png"))
    code, found = doctor(root)
    assert (code, found["faults"], found["notes"]) == (0, [], ["All pictures are grey."])


def test_a_set_without_a_held_out_part(tmp_path):
    for seed, name in enumerate(EMOTIONS):
        picture(tmp_path / "set" / name / "1.png", seed)
    code, found = doctor(tmp_path / "set")
    assert (code, list(found["counts"])) == (0, ["train"])
    assert "no held-out part" in found["notes"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nowhere/at/all"], "/nowhere/at/all is not a folder"),
        (["."], "has no known layout"),
        ([".", "loss=focal"], "loss=focal is not about data"),
        ([".", "data=folders"], "folders"),
        (["set", "data.margin=wide"], "data.margin=wide: give a share"),
        (["set", "data.margin=-1"], "data.margin=-1: give a share"),
        (["set", "data.classes=[bored]"], "no class 'bored'"),
        (["set", "data.rot=1"], "data.rot"),
        (["set", "--json", "."], ". cannot be written"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    if words[0] == "set":
        put_folder(tmp_path / "set", {})
    assert main.main(["doctor", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("fer: ")
    assert said in error
    assert "\n" not in error


@pytest.mark.parametrize(("column", "said"), [("split", "not train, val, test"), ("label", "not neutral, happy")])
def test_a_reader_that_gives_unknown_names(tmp_path, monkeypatch, capsys, column, said):
    root = put_folder(tmp_path / "set", {})
    found = folder.read(str(root), EMOTIONS)
    place = found.rows.schema.get_field_index(column)
    odd = found.rows.set_column(place, found.rows.schema.field(place), pa.array(["odd"] * len(found.rows)))
    monkeypatch.setattr(dataset, "make", lambda *_, **__: replace(found, rows=odd))
    assert main.main(["doctor", str(root), "data=folder"]) == 2
    assert f"has the unknown {column} 'odd', {said}" in capsys.readouterr().err


def test_processes_do_not_matter(tmp_path):
    same = encoded(face(1), ".png")
    root = put_folder(
        tmp_path / "set", {"train/happy/a.png": same, "test/sad/b.png": same, "val/fear/c.jpg": b"x"}
    )
    assert doctor(root, "--processes", "2") == doctor(root)


def test_nothing_in_the_root_is_changed(tmp_path):
    root = put_folder(tmp_path / "set", {})
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(root.rglob("*"))}
    doctor(root, "--html", str(tmp_path / "page.html"))
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(root.rglob("*"))} == before


def test_it_starts_without_torch(tmp_path):
    root = put_folder(tmp_path / "set", {})
    code = (
        "import sys; from fer_lightning.cli.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    )
    words = ["doctor", str(root), "--html", str(tmp_path / "page.html")]
    assert subprocess.run([sys.executable, "-c", code, *words], check=False).returncode == 0


BY_MAJORITY = {
    "train": (8733, 7284, 3022, 3136, 536, 116, 2098, 120),
    "val": (1180, 862, 348, 411, 60, 25, 289, 16),
}


OF_FERPLUS = {
    "cross_split_duplicate", "cross_split_near_duplicate", "labels_disagree", "duplicate", "near_duplicate",
}  # fmt: skip


def test_four_classes_of_ferplus(ferplus_root, tmp_path):
    """The count of copies is that of equal pixels in OpenCV, found without any of our code."""
    file, classes = tmp_path / "report.json", ["surprise", "fear", "disgust", "contempt"]
    words = [f"data.classes=[{','.join(classes)}]", "--json", str(file)]
    assert main.main(["doctor", ferplus_root, *words]) == 1
    found = json.loads(file.read_text())
    assert found["layout"] == "ferplus"
    wanted = {
        split: {name: n for name, n in zip(EMOTIONS, counts, strict=True) if name in classes}
        for split, counts in BY_MAJORITY.items()
    }
    assert found["counts"] == found["usable"] == found["published"] == wanted
    assert len(of_kind(found, "cross_split_duplicate")) == len(set(paths(found, "cross_split_duplicate"))) == 121
    assert {fault["kind"] for fault in found["faults"]} == OF_FERPLUS
    assert found["notes"][-1] == "All pictures are grey."


@pytest.mark.faults
def test_ferplus(ferplus_root, tmp_path):
    file = tmp_path / "report.json"
    assert main.main(["doctor", ferplus_root, "--json", str(file)]) == 1
    found = json.loads(file.read_text())
    assert found["layout"] == "ferplus"
    wanted = {split: dict(zip(EMOTIONS, counts, strict=True)) for split, counts in BY_MAJORITY.items()}
    assert found["counts"] == found["usable"] == found["published"] == wanted
    assert len(of_kind(found, "cross_split_duplicate")) == len(set(paths(found, "cross_split_duplicate"))) == 231
    assert {fault["kind"] for fault in found["faults"]} == OF_FERPLUS
    assert found["notes"] == ["All pictures are grey."]


@pytest.mark.faults
def test_ferplus_with_the_rows_that_the_majority_rule_drops(ferplus_root, tmp_path):
    file = tmp_path / "report.json"
    classes = f"data.classes=[{','.join(EMOTIONS)},unknown,not a face,no majority]"
    assert main.main(["doctor", ferplus_root, classes, "--json", str(file)]) == 1
    found = json.loads(file.read_text())
    assert (found["left_out"], sum(sum(counts.values()) for counts in found["counts"].values())) == ({}, 32137)
    assert len(of_kind(found, "cross_split_duplicate")) == 279


def test_every_kind_of_fault_that_code_names_has_a_meaning():
    code = "".join(file.read_text() for file in Path(fer_lightning.__file__).parent.rglob("*.py"))
    named = set(re.findall(r'(?:Fault|UnusableError|Twins|yield)\(?\s*"(\w+)"', code))
    assert {"missing", "unknown_label", "duplicate", "tiny_face", "grey"} <= named
    assert named <= MEANING.keys()
    assert MEANING.keys() >= HARMLESS


def test_what_is_not_read_is_told_in_text_json_and_page(tmp_path, capsys):
    root = put_folder(
        tmp_path / "set", {"train/happy/1.heic": b"x", "train/suprise/2.png": encoded(face(3), ".png")}
    )
    (root / "val/.DS_Store").touch()
    page = tmp_path / "page.html"
    code, found = doctor(root, "--html", str(page))
    assert (code, found["spoils"]) == (1, True)
    assert [(entry["place"], entry["what"], entry["count"], entry["expected"]) for entry in found["unread"]] == [
        ("train/happy", "*.heic", 1, False),
        ("train/suprise", "pictures in a folder that names no class", 1, False),
        (".", ".DS_Store", 1, True),
    ]
    out = capsys.readouterr().out
    assert "1 *.heic in train/happy" in out
    assert "did you mean data.labels={suprise: surprise}?" in out
    assert "2 not read." in out
    assert "Nothing that would spoil a result" not in out + page.read_text()
    assert all(
        said in page.read_text()
        for said in ("2 files were not read:", "*.heic", "1 file was not read, as expected:")
    )


def test_nothing_is_said_to_be_sound_that_was_not_read(tmp_path, capsys):
    root = put_folder(
        tmp_path / "set", {f"train/happy/{n}.png": encoded(face(9000 + n), ".png") for n in range(100)}
    )
    (root / "train/notes.log").touch()
    code, _ = doctor(root)
    out = capsys.readouterr().out
    assert code == 0
    assert "Nothing in what was read would spoil a result; 1 file was not read." in out


def test_links_are_told_and_followed(tmp_path, capsys):
    real = put_folder(tmp_path / "real", {})
    root = put_folder(tmp_path / "set", {})
    (root / "train/happy/first.png").unlink()
    (root / "train/happy/first.png").symlink_to(real / "train/happy/first.png")
    code, found = doctor(root)
    assert (code, paths(found, "outside_root")) == (1, ["train/happy/first.png"])
    assert (
        "1 link leads out of the data set's folder and is not followed: say data.follow_links=true."
        in found["notes"]
    )
    code, found = doctor(root, "data.follow_links=true")
    assert (code, found["usable"]["train"]["happy"], found["notes"]) == (0, 1, [])


def test_names_that_a_terminal_cannot_show(tmp_path):
    root = put_folder(tmp_path / "set \u00b1 \u20ac", {"train/\u00fcber/1.png": encoded(face(5), ".png")})
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "fer_lightning", "doctor", str(root), "--processes", "1"]
    ended = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "1 pictures in a folder that names no class in train/\\xfcber" in ended.stdout


def test_rows_that_are_all_set_aside_are_one_line(tmp_path, capsys):
    put_affectnet(tmp_path / "set")
    for name in ("training.csv", "validation.csv"):
        file = tmp_path / "set" / name
        file.write_text(file.read_text().replace(",5,5,20,20,", ",5,5,0,0,"))
    assert main.main(["doctor", str(tmp_path / "set")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fer: AffectNet: no picture of neutral, ")
    assert "16 were set aside, the first: 1/aneutral.jpg: unusable_box, face_x 5" in said
    assert "Fault(" not in said


def test_an_empty_manifest_is_one_line(tmp_path):
    put_affectnet(tmp_path / "set")
    node = compose(["data=folder"])["data"] | {"root": str(tmp_path), "classes": ["happy"]}
    (tmp_path / "empty_manifest.py").write_text(
        "from fer_lightning.data.manifest import Manifest, SCHEMA, make_rows\n"
        "def read(root, classes):\n"
        "    return Manifest('x', root, make_rows({name: [] for name in SCHEMA.names}), tuple(classes))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(UserError, match=r"data: there is no row of happy in "):
            dataset.read(node | {"_target_": "empty_manifest.read"})

"""What every reader keeps, by the files of conf/data: a new one is enrolled by itself."""

import shutil
from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from layouts import PUT, SEVEN

from fer_lightning.config.compose import Composer
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.emotions import EMOTIONS, known_name
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.manifest import SCHEMA
from fer_lightning.run.check_config import check

COMPOSE = Composer()
OPTIONS = [name for name in groups()["data"] if name not in ("synthetic", "auto")]  # those have other tests


def classes_of(option):
    return SEVEN if option == "parquet" else COMPOSE([f"data={option}"])["data"]["classes"]


def config(option, root, *more, classes=None, store=None):
    words = [f"data.classes=[{','.join(classes or classes_of(option))}]", *more]
    made = COMPOSE([f"data={option}", "data.size=32", *words])
    made["data"] |= {"root": None if root == "null" else str(root), "store": store and str(store)}
    check(made)
    return made


def read(option, root, *more, **how):
    return dataset.manifest(config(option, root, *more, **how))


def contents(root):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(root.rglob("*"))}


@pytest.fixture(params=OPTIONS)
def option(request):
    return request.param


@pytest.fixture
def root(option, tmp_path):
    PUT[option](tmp_path / "set")
    return tmp_path / "set"


def test_a_picture_a_class_and_split(option, root):
    before = contents(root)
    manifest = read(option, root)
    assert manifest.name == option
    assert manifest.rows.schema.equals(SCHEMA)
    assert manifest.classes == tuple(classes_of(option))
    for split in ("train", "test"):
        assert manifest.counts(split) == dict.fromkeys(classes_of(option), 1)
    assert not manifest.faults
    assert len(set(manifest.rows["id"].to_pylist())) == manifest.rows.num_rows
    assert not any(PurePath(path).is_absolute() for path in manifest.rows["path"].to_pylist())
    assert contents(root) == before


def test_classes_are_those_asked_for_in_that_order(option, root):
    manifest = read(option, root, classes=["sad", "happy"])
    assert manifest.classes == ("sad", "happy")
    assert set(manifest.rows["label"].to_pylist()) == {"sad", "happy"}
    left_out = [name for name in classes_of(option) if name not in ("sad", "happy")]
    assert manifest.skipped == dict.fromkeys(("train", "test"), dict.fromkeys(left_out, 1))


def test_the_hash_is_that_of_the_content_wherever_it_lies(option, root, tmp_path):
    first = read(option, root).hash()
    assert read(option, root).hash() == first
    moved = tmp_path / "elsewhere" / "other name"
    shutil.copytree(root, moved)
    assert read(option, moved).hash() == first
    assert read(option, moved, classes=["sad", "happy"]).hash() != first


def test_it_can_be_prepared(option, root, tmp_path):
    store = dataset.store(config(option, root, "data.codec=raw", store=tmp_path / "stores"))
    assert store.meta.counts["train"] == dict.fromkeys(classes_of(option), 1)
    assert not store.meta.faults


@pytest.mark.parametrize("option", [name for name in OPTIONS if name not in ("fer2013", "parquet")])
def test_links_out_of_the_root_are_not_followed(option, root, tmp_path):
    """Of all sets but those whose pictures lie inside other files."""
    manifest = read(option, root)
    assert not manifest.embedded
    path = manifest.rows["path"].to_pylist()[0]
    picture = manifest.root / path
    shutil.move(picture, tmp_path / "secret.png")
    picture.symlink_to(tmp_path / "secret.png")
    rest = [name for name in classes_of(option) if name != manifest.rows["label"].to_pylist()[0]]
    store = dataset.store(config(option, root, classes=rest, store=tmp_path / "stores"))
    assert sum(store.meta.counts["train"].values()) == len(rest)
    with pytest.raises(UserError, match=r"were set aside.*(outside_root|missing)"):
        dataset.store(config(option, root, store=tmp_path / "stores"))


def test_links_are_followed_where_that_is_asked_for(option, root, tmp_path):
    wanted = read(option, root)
    linked = tmp_path / "linked"
    linked.mkdir()
    for entry in root.iterdir():
        (linked / entry.name).symlink_to(entry)
    with pytest.raises(UserError, match=r"links? leads? out of .*say data\.follow_links=true"):
        read(option, linked)
    followed = read(option, linked, "data.follow_links=true")
    assert followed.hash() == wanted.hash()
    made = config(option, linked, "data.follow_links=true", "data.codec=raw", store=tmp_path / "stores")
    assert not dataset.store(made).meta.faults


@pytest.mark.parametrize("root_is", ["null", "/nowhere/at/all", "empty"])
def test_a_wrong_root_is_one_line(option, tmp_path, root_is):
    root = tmp_path if root_is == "empty" else root_is
    with pytest.raises(UserError, match=r"data\.root=<|no .* in .*it holds: nothing"):
        read(option, root)


def test_an_unknown_class_and_split(option, root):
    with pytest.raises(UserError, match=r"has no class 'bored'; it has: .*happy"):
        read(option, root, classes=["happy", "bored"])
    with pytest.raises(UserError, match=r"has no split 'other' to test on; what works here: data\.test_split="):
        read(option, root, "data.test_split=other")


def test_a_reader_of_ones_own_that_leaves_the_test_split_open(tmp_path, monkeypatch):
    PUT["folder"](tmp_path)
    found = dataset.read(config("folder", tmp_path)["data"])
    monkeypatch.setattr(dataset, "read", lambda *_: replace(found, name="mine"))
    with pytest.raises(UserError, match=r"data\.test_split=null: say what to test mine on"):
        read("folder", tmp_path, "data.test_split=null")


def test_the_folder_above_will_do(option, root):
    if option != "affectnet":  # which has enough variants
        assert read(option, root.parent).hash() == read(option, root).hash()


def test_pictures_inside_files_come_out_as_they_are(tmp_path):
    PUT["fer2013"](tmp_path)
    manifest = read("fer2013", tmp_path)
    data = list(manifest.pictures(manifest.rows["path"].to_pylist()))
    assert [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)[5, 7].tolist() for one in data] == [
        [value] * 3 for value in (*range(7), *range(20, 27))
    ]


@pytest.mark.parametrize(
    ("name", "ours"),
    [("Happiness", "happy"), (" ANGRY ", "anger"), ("contemptuous", "contempt"), ("fearful", "fear"),
     ("surprised", "surprise"), ("disgusted", "disgust"), ("sadness", "sad"), ("none", "none"), ("bored", None)],
)  # fmt: skip
def test_names_of_labels(name, ours):
    assert known_name(name) == ours
    assert known_name("bored", ["bored"]) == "bored"
    assert all(known_name(emotion) == emotion for emotion in EMOTIONS)


def test_the_layouts_are_those_of_all_options():
    assert set(PUT) == set(OPTIONS)
    assert all(Path(shipped("conf") / "data" / f"{name}.yaml").is_file() for name in PUT)

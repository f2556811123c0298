"""data=auto: which layout it is, said in one line."""

import logging

import pytest
from layouts import EMOTIONS, PUT, SEVEN, put_fer2013, put_ferplus, put_rafdb_folders, text

from fer_lightning.config.compose import Composer
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.readers import auto

COMPOSE = Composer()
SIX = ("neutral", "happy", "sad", "surprise", "fear", "disgust")


def config(root, test_split=None):
    said = [f"data.test_split={test_split}"] if test_split else []
    return COMPOSE(["data=auto", f"data.root={root}", f"data.classes=[{','.join(SIX)}]", *said])


@pytest.mark.parametrize("option", PUT)
@pytest.mark.parametrize("above", [False, True])
def test_every_layout_is_recognised(tmp_path, caplog, option, above):
    place = tmp_path / "set" if above else tmp_path
    PUT[option](place)
    with caplog.at_level(logging.INFO):
        manifest = dataset.manifest(config(tmp_path))  # with the test split that is usual for the layout
    assert manifest.name == option
    assert manifest.counts("test") == dict.fromkeys(SIX, 1)
    assert caplog.messages[0] == f"data=auto: {place} is read as data={option}"
    assert option == "csv" or len(caplog.messages) == 1


def test_the_other_copy_of_rafdb(tmp_path):
    put_rafdb_folders(tmp_path)
    assert auto.read(str(tmp_path), SIX).name == "rafdb"


def test_test_split_may_be_said(tmp_path):
    PUT["yolo"](tmp_path)
    assert "valid/images/2.jpg" in dataset.manifest(config(tmp_path, "valid")).rows["path"].to_pylist()
    with pytest.raises(UserError, match="no split 'other'"):
        dataset.manifest(config(tmp_path, "other"))


@pytest.mark.parametrize("option", PUT)
def test_all_emotions_and_splits_that_a_set_has(tmp_path, option):
    PUT[option](tmp_path)
    manifest = auto.read(str(tmp_path), None)
    assert manifest.classes == (SEVEN if option in ("fer2013", "rafdb", "parquet") else EMOTIONS)
    splits = {"affectnet": ["val"], "affectnet_2021": ["val"], "yolo": ["val", "test"], "fer2013": ["val", "test"]}
    assert set(manifest.rows["split"].to_pylist()) == {"train", *splits.get(option, ["test"])}


def test_two_layouts(tmp_path):
    put_ferplus(tmp_path)
    put_fer2013(tmp_path)
    with pytest.raises(UserError, match=r"there is fer2013 in .* and ferplus in .*; choose with data="):
        auto.read(str(tmp_path), SIX)


def test_no_layout(tmp_path):
    text(tmp_path / "notes.txt", "nothing")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError) as caught:
        auto.read(str(tmp_path), SIX)
    said = str(caught.value)
    assert "it holds: notes.txt, pictures/" in said
    assert all(f"{option} (" in said for option in PUT)
    for root in (None, "/nowhere/at/all"):
        with pytest.raises(UserError, match=r"set data\.root=<"):
            auto.read(root, SIX)

"""Prepared faces belong to their files: replaced in place, in another folder, moved, copied, without times."""

import logging
import os
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from layouts import PUT, put_parquet
from stores import CLASSES, folders, make, manifest, picture, small

from fer_lightning.config.compose import Composer
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.store import prepare as preparing

COMPOSE = Composer()
NAME = "train0.png"


def again(root: Path) -> Manifest:
    """The same set, read anew."""
    return small(root)


def other_picture(file: Path, seed: int = 99) -> None:
    """Replace a picture by another one."""
    cv2.imwrite(str(file), picture(seed))


def test_a_picture_that_was_replaced_is_prepared_anew_and_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = make(again(tmp_path / "set"), tmp_path / "base")
    assert "changed" not in caplog.text
    other_picture(tmp_path / "set" / NAME)
    second = make(again(tmp_path / "set"), tmp_path / "base")
    assert second.folder != first.folder
    assert second.hash != first.hash
    assert f"the pictures in {tmp_path / 'set'} have changed since they were prepared" in caplog.text
    assert str(first.folder) in caplog.text
    assert (second.split("train").image(0) != first.split("train").image(0)).any()


def test_the_same_names_in_another_folder_are_other_faces(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    faces = [(f"{split}{i}.bmp", split, CLASSES[i % 2], None) for split in ("train", "test") for i in range(4)]
    first = make(manifest(tmp_path / "one", faces), tmp_path / "base")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for seed, file in enumerate((tmp_path / "two").iterdir()):
        other_picture(file, 100 + seed)
        status = (tmp_path / "one" / file.name).stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert file.stat().st_size == status.st_size
    second = make(manifest(tmp_path / "two", faces), tmp_path / "base")
    assert second.folder != first.folder
    assert second.hash != first.hash
    assert "changed" not in caplog.text


@pytest.mark.parametrize("how", [shutil.copytree, shutil.move])
def test_a_set_that_was_copied_or_moved_has_the_same_faces(tmp_path, how):
    first = make(again(tmp_path / "set"), tmp_path / "base")
    how(tmp_path / "set", tmp_path / "elsewhere")
    second = make(again(tmp_path / "elsewhere"), tmp_path / "base")
    assert second.hash == first.hash
    assert (second.split("train").groups == first.split("train").groups).all()


def test_nothing_is_prepared_anew_while_nothing_changes(tmp_path, monkeypatch):
    first = make(again(tmp_path / "set"), tmp_path / "base")
    monkeypatch.setattr(preparing, "write", None)
    assert make(again(tmp_path / "set"), tmp_path / "base").folder == first.folder


def test_without_times_the_content_counts(tmp_path):
    """As in an archive that keeps none: sizes and times of two pictures are equal, what is in them is not."""
    faces = [(f"{split}{i}.bmp", split, CLASSES[i % 2], None) for split in ("train", "test") for i in range(4)]
    found = manifest(tmp_path / "set", faces)
    for file in (tmp_path / "set").iterdir():
        os.utime(file, ns=(0, 0))
    first = found.files_hash
    other_picture(tmp_path / "set/train0.bmp")
    os.utime(tmp_path / "set/train0.bmp", ns=(0, 0))
    assert replace(found).files_hash != first


def test_pictures_that_change_meanwhile_are_one_line(tmp_path, monkeypatch):
    found = small(tmp_path / "set")
    write = preparing.write

    def meanwhile(part):
        other_picture(tmp_path / "set" / NAME)
        return write(part)

    monkeypatch.setattr(preparing, "write", meanwhile)
    with pytest.raises(UserError, match=r"pictures in .*set were changed while they were prepared; run the same"):
        make(found, tmp_path / "base")
    assert not folders(tmp_path / "base")  # or a restored picture would be taken from what is half made


@pytest.mark.parametrize("option", ["affectnet", "parquet", "fer2013"])
def test_every_kind_of_file_is_looked_at(tmp_path, option):
    """Pictures in files of their own, and inside others."""
    PUT[option](tmp_path / "set")
    config = COMPOSE([f"data={option}", f"data.root={tmp_path / 'set'}", "data.classes=[happy,sad]"])
    before = dataset.manifest(config).files_hash
    assert dataset.manifest(config).files_hash == before
    file = max((file for file in (tmp_path / "set").rglob("*") if file.is_file()), key=lambda file: str(file))
    if option == "affectnet":
        file = tmp_path / "set/Manually_Annotated_Images/1/ahappy.jpg"
    os.utime(file, ns=(1, 1))
    assert dataset.manifest(config).files_hash != before


def test_a_planned_run_looks_at_the_store_alone(tmp_path):
    put_parquet(tmp_path / "set")
    words = ["data=parquet", f"data.root={tmp_path / 'set'}", f"data.store={tmp_path / 'base'}", "data.size=32"]
    config = COMPOSE([*words, "data.classes=[happy,sad]"])
    store = dataset.store(config)
    shutil.rmtree(tmp_path / "set")
    opened = dataset.prepared_store(config, store.folder, store.meta.content_hash)
    assert opened.hash == store.hash
    with pytest.raises(UserError, match="holds other faces than when the run was planned; plan it again"):
        dataset.prepared_store(config, store.folder, "0" * 64)
    with pytest.raises(UserError, match="is no store"):
        dataset.prepared_store(config, tmp_path, store.meta.content_hash)


def test_a_planned_run_on_another_node_copies_the_faces_of_the_shared_disk(tmp_path, monkeypatch):
    put_parquet(tmp_path / "set")
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "shared"))
    words = ["data=parquet", f"data.root={tmp_path / 'set'}", "data.size=32", "data.classes=[happy,sad]"]
    store = dataset.store(COMPOSE(words))
    config = COMPOSE([*words, f"data.store={tmp_path / 'node'}"])
    opened = dataset.prepared_store(config, tmp_path / "node" / store.folder.name, store.meta.content_hash)
    assert opened.folder == tmp_path / "node" / store.folder.name
    assert opened.hash == store.hash
    shutil.rmtree(tmp_path / "set")  # nothing but the store is needed
    other = dataset.prepared_store(config, tmp_path / "another" / store.folder.name, store.meta.content_hash)
    assert other.hash == store.hash


def test_a_node_without_the_data_set_is_told_by_name(tmp_path, monkeypatch):
    put_parquet(tmp_path / "set")
    words = ["data=parquet", "data.size=32", "data.classes=[happy,sad]"]
    store = dataset.store(COMPOSE([*words, f"data.root={tmp_path / 'set'}", f"data.store={tmp_path / 'base'}"]))
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "elsewhere"))
    config = COMPOSE([*words, f"data.root={tmp_path / 'unmounted'}", f"data.store={tmp_path / 'node'}"])
    with pytest.raises(UserError, match=f"node {platform.node()} lacks the faces .*unmounted.*all nodes share"):
        dataset.prepared_store(config, tmp_path / "node" / store.folder.name, store.meta.content_hash)

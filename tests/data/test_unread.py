"""What is read and what is told to be unread is what is there, whatever happened to a data set's folder."""

import os
import random
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import PUT, picture, put_folder, put_yolo

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.readers import affectnet, auto, folder, yolo
from fer_lightning.data.store.crop import decode
from fer_lightning.data.unread import in_words, is_too_much, unexpected, unread

READERS = {layout.option: module for layout, module in auto.LAYOUTS.items()}
TREES = 25
"""Damaged trees of each of the nine layouts: 225."""


def told(manifest):
    return {(entry.place, entry.what): entry for entry in unread(manifest)}


def place(path):
    """A path as it is wherever links on its way lead."""
    return os.path.realpath(path.parent), os.fsencode(path.name).decode("utf-8", "backslashreplace")


def there(root, follow_links):
    """Everything below a root that is no folder: files, links to files or nothing, links that are not followed."""
    found, seen, waiting = set(), set(), [root]
    while waiting:
        path = waiting.pop()
        if os.path.realpath(path) in seen:
            continue
        seen.add(os.path.realpath(path))
        for entry in path.iterdir():
            out = not Path(os.path.realpath(entry)).is_relative_to(os.path.realpath(root))
            above = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(entry))
            if not entry.is_dir() or (entry.is_symlink() and out and not follow_links):
                found.add(place(entry))
            elif not entry.is_symlink() or (follow_links and not above):
                waiting.append(entry)
    return found


def understood(manifest):
    """The files of rows, of rows that are left out, of faults, and the annotation files."""
    top = manifest.folder or manifest.root
    faults = [fault.path for fault in manifest.faults if fault.kind != "unknown_label" or fault.path[-1:] != "/"]
    rows = [path.partition("#")[0] if manifest.embedded else path for path in manifest.rows["path"].to_pylist()]
    below_root = [*rows, *manifest.left_out, *faults, *(re.sub(r"#\d+$", "", path) for path in faults)]
    paths = [manifest.root / path for path in below_root]
    paths += [top / path for path in [*manifest.annotations, *faults]]
    return {place(path) for path in paths}


def damage(root, outside, rng):
    """Do one thing to a tree that happens to data sets."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]
    file, other, at = rng.choice(files), rng.choice(files), rng.choice(folders)
    name = f"n{rng.randrange(10**6)}"
    kind = rng.randrange(14)
    if kind == 0:
        file.unlink()
    elif kind == 1:
        file.rename(file.with_suffix(rng.choice([".heic", ".jfif", ".JPE", ".gif", ".mp4", ".txt", "", ".npy"])))
    elif kind == 2:
        file.write_bytes(b"")
    elif kind == 3:
        picture(at / name / rng.choice(["", "deeper", "happy"]) / "1.png", width=4, height=4)
    elif kind == 4:
        (at / rng.choice([".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", "README", "LICENSE.md"])).touch()
    elif kind == 5:
        (at / "__MACOSX").mkdir(exist_ok=True)
        (at / "__MACOSX" / f"._{name}.jpg").touch()
    elif kind == 6:
        picture(outside / name / "1.png", width=4, height=4)
        (at / name).symlink_to(outside / name)
    elif kind == 7:
        picture(outside / f"{name}.png", width=4, height=4)
        (at / f"{name}.png").symlink_to(outside / f"{name}.png")
    elif kind == 8:
        (at / f"{name}{rng.choice(['', '.png', '.jpg'])}").symlink_to(rng.choice([file, at, root, "nothing.png"]))
    elif kind == 9:
        other.with_suffix(rng.choice([".bmp", ".png", ".jpg"])).with_stem(file.stem).write_bytes(
            other.read_bytes()
        )
    elif kind == 10:
        lines = file.read_bytes().split(b"\n")
        lines[rng.randrange(len(lines))] = rng.choice([b"", b"x", b"99 1 2", b",,,,,,", b"a/b.jpg,1", b"\xff\xfe"])
        file.write_bytes(b"\n".join(lines))
    elif kind == 11 and at != root:
        at.rename(at.with_name(rng.choice(["suprise", "Happy2", "_old", name])))
    elif kind == 12:
        os.close(os.open(os.fsencode(at) + b"/\xff" + name.encode() + b".png", os.O_CREAT))
    else:
        file.rename(at / f"{name}{file.suffix}")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    made = tmp_path_factory.mktemp("sound")
    for option, put in PUT.items():
        put(made / option)
    return made


@pytest.mark.parametrize("option", PUT)
def test_what_is_read_and_what_is_told_is_what_is_there(option, sound, tmp_path):
    read = 0
    for seed in range(TREES):
        rng = random.Random(f"{option} {seed}")
        root, outside = tmp_path / f"{seed}/set", tmp_path / f"{seed}/outside"
        shutil.copytree(sound / option, root)
        for _ in range(rng.randrange(1, 7)):
            damage(root, outside, rng)
        follow_links = rng.random() < 0.5
        try:
            manifest = READERS[option].read(str(root), None, follow_links=follow_links)
        except UserError:  # nothing can be read
            continue
        entries = unread(manifest)
        files = there(manifest.folder or manifest.root, follow_links)
        known = understood(manifest) & files
        assert len(known) + sum(entry.count for entry in entries) == len(files), f"{option} {seed}"
        assert all(bool(entry.why) == entry.expected for entry in entries)
        read += 1
    assert read > TREES / 4


@pytest.mark.parametrize("option", PUT)
def test_all_of_a_sound_set_is_read(option, sound):
    manifest = READERS[option].read(str(sound / option), None)
    assert unread(manifest) == []
    assert in_words([]) == ""


def test_pictures_that_are_not_read_are_counted_by_ending_and_place(tmp_path):
    put_folder(tmp_path)
    for number in range(3):
        (tmp_path / f"train/happy/{number}.heic").touch()
    picture(tmp_path / "train/suprise/1.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".git/objects").mkdir(parents=True)
    (tmp_path / ".git/objects/ab").touch()
    manifest = folder.read(str(tmp_path), None)
    found = told(manifest)
    assert found["train/happy", "*.heic"].count == 3
    assert found["train/suprise", "pictures in a folder that names no class"].spoils
    assert [found[key].expected for key in ((".", "*.txt"), (".", ".git"))] == [True, True]
    assert is_too_much(found.values(), 10**6)
    assert in_words(found.values()) == (
        "4 files were not read: 3 *.heic in train/happy, 1 pictures in a folder that names no class in "
        "train/suprise; `fer doctor ROOT` tells all"
    )


def test_below_one_percent_nothing_is_spoilt(tmp_path):
    put_folder(tmp_path)
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/setup.sh").touch()
    found = unread(folder.read(str(tmp_path), None))
    assert unexpected(found) == 1
    assert not is_too_much(found, 100)
    assert is_too_much(found, 99)


ENDINGS = {
    **{ending: ending for ending in (".jpe", ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pnm", ".dib")},
    **{".jfif": ".jpg", "": ".png"},
}
"""Endings of names, each with that of its format."""


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_that_can_be_decoded_is_read(tmp_path, ending):
    put_folder(tmp_path, names=("happy", "sad"))
    shape = (40, 60) if ending == ".pgm" else (40, 60, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    new = tmp_path / f"train/happy/new{ending}"
    new.write_bytes(cv2.imencode(ENDINGS[ending], pixels)[1].tobytes())
    manifest = folder.read(str(tmp_path), ("happy", "sad"))
    assert f"train/happy/new{ending}" in manifest.rows["path"].to_pylist()
    assert unread(manifest) == []
    assert decode(new).shape == (40, 60, 3)


def test_a_run_says_what_was_not_read_but_not_what_it_does_not_use(tmp_path):
    put_yolo(tmp_path / "set")
    words = ["data=yolo", f"data.root={tmp_path}/set", f"data.store={tmp_path}/stores", "data.size=32"]
    config = compose(words)  # its validation part is not used
    assert dataset.store(config).meta.unread == ""
    (tmp_path / "set/train/images/1.heic").touch()
    shutil.rmtree(tmp_path / "stores")
    said = dataset.store(config).meta.unread
    assert said == "1 file was not read: 1 *.heic in train/images; `fer doctor ROOT` tells all"


def test_one_of_two_pictures_with_one_annotation(tmp_path):
    put_yolo(tmp_path)
    shutil.copy(tmp_path / "train/images/0.jpg", tmp_path / "train/images/0.png")
    manifest = yolo.read(str(tmp_path), None)
    assert [path for path in manifest.rows["path"].to_pylist() if "train/images/0." in path] == [
        "train/images/0.jpg"
    ]
    assert told(manifest)["train/images", "one of two files with the same name but for the ending"].count == 1


def test_what_is_published_with_affectnet_is_expected(tmp_path):
    PUT["affectnet"](tmp_path)
    with (tmp_path / "training.csv").open("a") as file:
        file.write("1/none.jpg,5,5,20,20,,8,0,0\n")
    picture(tmp_path / affectnet.PICTURES / "1/none.jpg")
    picture(tmp_path / "Automatically_Annotated/Automatically_Annotated_Images/1/a.jpg")
    manifest = affectnet.read(str(tmp_path), None)
    assert [(entry.count, entry.expected) for entry in unread(manifest)] == [(1, True)]
    assert list(manifest.left_out) == ["1/none.jpg"]

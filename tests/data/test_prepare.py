"""Preparing a store, on made-up pictures."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pyarrow as pa
import pytest
from stores import CLASSES, content, folders, leaky, make, manifest, picture, same_rows, small

from fer_lightning.core import files
from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Manifest, make_rows
from fer_lightning.data.split import only_test
from fer_lightning.data.store import prepare as preparing
from fer_lightning.data.store.prepare import disk_estimate


def test_a_store_that_is_there_is_opened(tmp_path, monkeypatch):
    found = small(tmp_path / "set")
    first = make(found, tmp_path / "base")
    monkeypatch.setattr(preparing, "write", None)
    (tmp_path / "set/train0.png").unlink()
    assert make(found, tmp_path / "base", processes=2).folder == first.folder
    assert folders(tmp_path / "base") == [first.folder.name]


def test_a_store_of_a_shared_disk_is_copied(tmp_path, monkeypatch):
    found = small(tmp_path / "set")
    shared = make(found, tmp_path / "shared")
    monkeypatch.setattr(preparing, "write", None)
    own = make(found, tmp_path / "node", shared=tmp_path / "shared")
    assert own.folder == tmp_path / "node" / shared.folder.name
    assert content(own.folder) == content(shared.folder)
    assert folders(tmp_path / "node") == [own.folder.name]


def test_an_unfinished_store_of_a_shared_disk_is_not_copied(tmp_path):
    found = small(tmp_path / "set")
    shared = make(found, tmp_path / "shared")
    (shared.folder / preparing.META).unlink()
    own = make(found, tmp_path / "node", shared=tmp_path / "shared")
    assert content(own.folder).keys() == content(shared.folder).keys() | {preparing.META}


def test_every_parameter_has_a_store_of_its_own(tmp_path):
    found = small(tmp_path / "set")
    ways = [{}, {"size": 33}, {"margin": 0.1}, {"codec": "png"}, {"leaks": "keep"}]
    assert len({make(found, tmp_path / "base", **way).folder for way in ways}) == len(ways)
    other = small(tmp_path / "set", [("more.png", "train", "fear", None)])
    assert make(other, tmp_path / "base").folder != make(found, tmp_path / "base").folder


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"size": 0}, "size"),
        ({"margin": -0.1}, "margin"),
        ({"codec": "gif"}, "codec"),
        ({"leaks": "maybe"}, "leaks"),
        ({"processes": 0}, "processes"),
    ],
)
def test_numbers_out_of_range(tmp_path, way, said):
    with pytest.raises(ValueError, match=said):
        make(small(tmp_path / "set"), tmp_path / "base", **way)


@pytest.mark.parametrize(("column", "value"), [("label", "sad"), ("split", "val")])
def test_a_readers_mistake(tmp_path, column, value):
    rows = small(tmp_path / "set").rows
    wrong = make_rows({**{name: rows[name] for name in rows.column_names}, column: pa.array([value] * 8)})
    with pytest.raises(ValueError, match=f"unknown {column} '{value}'"):
        make(Manifest("made-up", tmp_path / "set", wrong, CLASSES), tmp_path / "base")


def test_the_number_of_processes_changes_no_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 16)
    extra = [(f"more{i}.png", "train", CLASSES[i % 2], (i % 40, 2, 9, 9)) for i in range(60)]
    found = small(tmp_path / "set", [*extra, ("gone.png", "train", "fear", None)])
    (tmp_path / "set/gone.png").unlink()
    one, two = (make(found, tmp_path / name, codec="jpeg", processes=n) for name, n in (("one", 1), ("two", 2)))
    assert content(one.folder) == content(two.folder)
    assert [shard.rows for shard in one.meta.shards["train"]] == [
        13,
        13,
        13,
        13,
        12,
    ]
    assert same_rows(two, "train") == [f"train{i}.png" for i in range(4)] + [f"more{i}.png" for i in range(60)]
    first, last = two.split("train").image(4), two.split("train").image(63)
    assert (last == one.split("train").image(63)).all()
    assert (first != last).any()


def test_what_cannot_be_used_is_named_counted_and_set_aside(tmp_path):
    names = ("missing.jpg", "empty.jpg", "text.jpg", "cut.jpg", "folder.jpg", "outside.png", "bomb.png")
    boxes = {"outside.png": (50, 0, 10, 10)}
    root = tmp_path / "set"
    found = small(root, [(name, "train", "fear", boxes.get(name)) for name in names])
    (root / "missing.jpg").unlink()
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("this is no picture")
    whole = cv2.imencode(".jpg", picture(1, 400, 400))[1].tobytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "folder.jpg").unlink()
    (root / "folder.jpg").mkdir()
    header = bytearray(cv2.imencode(".png", picture(1))[1].tobytes())
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    (root / "bomb.png").write_bytes(header)
    store = make(found, tmp_path / "base")
    assert {fault.path.split(":")[1]: fault.kind for fault in store.meta.faults} == {
        "missing.jpg": "missing",
        "empty.jpg": "zero_byte",
        "text.jpg": "unreadable",
        "cut.jpg": "unreadable",
        "folder.jpg": "unreadable",
        "outside.png": "box_outside",
        "bomb.png": "unreadable",
    }
    assert store.meta.counts["train"] == {"happy": 2, "fear": 2}
    assert len(store.split("train")) == 4


def test_leaks_are_dropped_kept_or_an_error(tmp_path):
    found = leaky(tmp_path / "set")
    dropped = make(found, tmp_path / "base")
    assert dropped.meta.dropped_leaks == {"happy": 1, "fear": 0}
    assert dropped.meta.test_leaks == {"happy": 0, "fear": 1}
    assert dropped.meta.counts["train"] == {"happy": 2, "fear": 3}
    assert "copy.bmp" not in same_rows(dropped, "train")
    kept = make(found, tmp_path / "base", leaks="keep")
    assert kept.meta.dropped_leaks == {"happy": 0, "fear": 0}
    assert kept.meta.test_leaks == {"happy": 0, "fear": 1}
    assert "copy.bmp" in same_rows(kept, "train")
    with pytest.raises(UserError, match=r"1 training images are pixel-identical .*'happy': 1.*data\.leaks=drop"):
        make(found, tmp_path / "base", leaks="error")
    with pytest.raises(UserError, match="pixel-identical"):
        make(found, tmp_path / "other", leaks="error")
    (tmp_path / "set/train1.png").unlink()  # what was done for it is there to be had without the leaks
    assert make(found, tmp_path / "other").hash == dropped.hash
    assert len(folders(tmp_path / "base")) == 2


@pytest.mark.parametrize(("split", "said"), [("train", "training"), ("test", "test")])
def test_a_class_without_an_image(tmp_path, split, said):
    other = {"train": "test", "test": "train"}[split]
    faces = [("a.png", "train", "happy", None), ("b.png", "test", "happy", None), ("c.png", other, "fear", None)]
    with pytest.raises(UserError, match=f"class 'fear' has no {said} image"):
        make(manifest(tmp_path / "set", faces), tmp_path / "base")
    found = manifest(tmp_path / "set", [*faces, ("gone.png", split, "fear", None)])
    (tmp_path / "set/gone.png").unlink()
    with pytest.raises(UserError, match=f"class 'fear' has no {said} image .*1 rows were set aside.*gone.png"):
        make(found, tmp_path / "base")
    assert not folders(tmp_path / "base")


def test_base_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written to .*Not a directory.*FER_CACHE"):
        make(small(tmp_path / "set"), tmp_path / "file/base")


def test_full_disk(tmp_path, monkeypatch):
    found = small(tmp_path / "set")
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"only 0\.00 GB are free; it needs about"):
        make(found, tmp_path / "base")
    monkeypatch.undo()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device; it needs about .* run the same again"):
        make(found, tmp_path / "base")
    monkeypatch.undo()
    assert folders(tmp_path / "base") == [f"{make(found, tmp_path / 'other').folder.name}.partial"]
    make(found, tmp_path / "base")
    assert content(tmp_path / "base") == content(tmp_path / "other")


def test_the_root_is_never_written_to(tmp_path):
    found = small(tmp_path / "set", [("none.png", "train", "fear", None)])
    (tmp_path / "set/none.png").write_bytes(b"")

    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (tmp_path / "set").rglob("*")}

    before = (state(), (tmp_path / "set").stat().st_mtime_ns)
    make(found, tmp_path / "base", processes=2)
    assert (state(), (tmp_path / "set").stat().st_mtime_ns) == before


def test_disk_estimate(tmp_path):
    extra = [(f"more{i}.png", "train", CLASSES[i % 2], None) for i in range(200)]
    found = small(tmp_path / "set", extra)
    for codec in ("raw", "png", "jpeg"):
        store = make(found, tmp_path / "base", size=64, codec=codec)
        used = sum(shard.bytes for shards in store.meta.shards.values() for shard in shards)
        assert used <= disk_estimate(208, 64, codec)
        assert codec != "raw" or used == pytest.approx(disk_estimate(208, 64, "raw"), rel=0.05)


def test_manifest_hash_sees_every_column_but_not_the_root_or_the_chunks(tmp_path):
    found = small(tmp_path / "a")
    assert small(tmp_path / "b").hash() == found.hash()
    halves = pa.concat_tables([found.rows.slice(0, 3), found.rows.slice(3)])
    assert Manifest("made-up", tmp_path, halves, CLASSES).hash() == found.hash()
    seen = {found.hash(), Manifest("made-up", tmp_path, found.rows, CLASSES[::-1]).hash()}
    for name in found.rows.column_names:
        kind = found.rows.schema.field(name).type
        other = ["?"] * 8 if pa.types.is_string(kind) else [[0, 1]] * 8 if pa.types.is_list(kind) else [1] * 8
        table = make_rows({**{n: found.rows[n] for n in found.rows.column_names}, name: pa.array(other)})
        seen.add(Manifest("made-up", tmp_path, table, CLASSES).hash())
    assert len(seen) == 2 + found.rows.num_columns


def test_no_set_has_more_shards_than_files_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 2)
    monkeypatch.setattr(preparing.key, "MOST_SHARDS", 5)
    found = small(tmp_path / "set", [(f"more{i}.png", "train", "fear", None) for i in range(13)])
    shards = make(found, tmp_path / "base").meta.shards
    assert [shard.rows for shard in shards["train"]] == [3, 3, 4, 3, 4]
    assert [shard.rows for shard in shards["test"]] == [2, 2]


LIMITED = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
from stores import make, small
from fer_lightning.core.errors import UserError
tmp = pathlib.Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # workers have it, too
try:
    make(small(tmp / "set"), tmp / "base", size=64, processes=2)
except UserError as error:
    print(error)
"""


def test_a_worker_that_cannot_write(tmp_path):
    found = small(tmp_path / "set")
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(tmp_path)]
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=unmeasured
    )  # it could not write that, either
    assert done.stdout.startswith(f"the store cannot be written to {tmp_path / 'base'}: File too large; it needs")
    assert done.stdout.count("\n") == 1
    assert not done.stderr
    assert [name.endswith(".partial") for name in folders(tmp_path / "base")] == [True]
    assert len(make(found, tmp_path / "base", size=64).split("train")) == 4


def test_a_set_without_training_rows(tmp_path):
    found = only_test(small(tmp_path / "set"), ("fear", "sad", "happy"))
    store = make(found, tmp_path / "base")
    assert store.meta.counts == {
        "train": dict.fromkeys(found.classes, 0),
        "test": {"fear": 2, "sad": 0, "happy": 2},
    }
    assert store.split("test").labels.tolist() == [2, 0, 2, 0]
    train = store.split("train")
    assert (len(train), len(train.labels), len(train.groups), train.ids) == (0, 0, 0, [])
    assert make(found, tmp_path / "base").folder == store.folder


def test_a_set_without_a_usable_picture(tmp_path):
    found = only_test(small(tmp_path / "set"), CLASSES)
    for file in (tmp_path / "set").glob("test*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"no test image of happy, fear .*4 rows were set aside"):
        make(found, tmp_path / "base")


def test_training_needs_every_class(tmp_path):
    rows = small(tmp_path / "set").rows
    with pytest.raises(UserError, match="class 'happy' has no training image"):
        make(Manifest("made-up", tmp_path / "set", rows.slice(4), CLASSES), tmp_path / "base")

"""Preparing goes on where it was stopped."""

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from stores import CLASSES, content, folders, make, manifest, small

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.store import prepare as preparing
from fer_lightning.data.store import shard as sharding


def interrupted(monkeypatch, found: Manifest, base: Path, shards: int, **how) -> None:
    """Prepare until some shards are made."""
    write, made = preparing.write, []

    def some(part):
        if len(made) == shards:
            raise KeyboardInterrupt
        made.append(part)
        return write(part)

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "write", some)
        with pytest.raises(KeyboardInterrupt):
            make(found, base, **how)


def many(root: Path) -> Manifest:
    """36 training rows: two that cannot be used, one that is a test image's twin."""
    found = small(root, [(f"more{i}.png", "train", CLASSES[i % 2], None) for i in range(32)])
    cv2.imwrite(str(root / "more3.png"), cv2.imread(str(root / "test1.png")))
    (root / "more9.png").unlink()
    (root / "more30.png").write_bytes(b"")
    return found


@pytest.mark.parametrize("leaks", ["drop", "keep"])
def test_it_goes_on_with_the_shards_that_are_there(tmp_path, monkeypatch, caplog, leaks):
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 8)
    caplog.set_level(logging.INFO)
    found = many(tmp_path / "set")
    whole = make(found, tmp_path / "whole", leaks=leaks)
    interrupted(monkeypatch, found, tmp_path / "base", 3, leaks=leaks)
    (partial,) = (tmp_path / "base").glob("*.partial")
    assert not caplog.records
    (partial / ".train-00002.arrow.abc.partial").write_bytes(b"half")
    (partial / "train-00003.arrow").write_bytes(b"whole, but without its report")
    calls = []
    store = make(found, tmp_path / "base", leaks=leaks, progress=lambda *done: calls.append(done))
    assert f"{store.folder.name}: 18 of 40 rows were prepared before" in caplog.text
    assert calls == [(18, 40), (25, 40), (32, 40), (40, 40)]
    assert content(store.folder) == content(whole.folder)
    assert len(store.meta.faults) == 2
    assert folders(tmp_path / "base") == [store.folder.name]


def test_only_the_last_rename_was_missing(tmp_path, monkeypatch):
    found = small(tmp_path / "set")

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparing.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            make(found, tmp_path / "base")
    assert [name.endswith(".partial") for name in folders(tmp_path / "base")] == [True]
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "write", None)
        store = make(found, tmp_path / "base")
    assert content(store.folder) == content(make(found, tmp_path / "other").folder)


def test_a_damaged_shard_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 8)
    found = many(tmp_path / "set")
    interrupted(monkeypatch, found, tmp_path / "base", 3)
    (cut,) = (tmp_path / "base").rglob("train-00001.arrow")
    cut.write_bytes(cut.read_bytes()[:-8])
    store = make(found, tmp_path / "base")
    assert content(store.folder) == content(make(found, tmp_path / "other").folder)


def test_what_was_mended_is_read_again(tmp_path):
    faces = [(f"{split}{i}.png", split, CLASSES[i], None) for split in ("train", "test") for i in range(2)]
    found = manifest(tmp_path / "set", faces)
    (tmp_path / "set/train1.png").rename(tmp_path / "away.png")
    with pytest.raises(UserError, match="class 'fear' has no training image"):
        make(found, tmp_path / "base")
    (tmp_path / "away.png").rename(tmp_path / "set/train1.png")
    assert make(replace(found), tmp_path / "base").meta.counts["train"] == {"happy": 1, "fear": 1}


@pytest.mark.parametrize("processes", [1, 2])
def test_pictures_inside_files_are_asked_for_where_they_are_missing(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 8)
    if processes == 1:  # others would not know
        monkeypatch.setattr(sharding, "BATCH_BYTES", 10_000)
    on_disk = many(tmp_path / "set")
    asked: list[str] = []

    def embedded(paths):
        for path in paths:
            asked.append(path)
            file = on_disk.root / path
            yield file.read_bytes() if file.exists() else b""

    found = Manifest("made-up", on_disk.root, on_disk.rows, CLASSES, embedded=embedded)
    interrupted(monkeypatch, found, tmp_path / "base", 3)
    asked.clear()
    store = make(found, tmp_path / "base", processes=processes)
    assert asked == [f"more{i}.png" for i in range(10, 32)]
    assert [fault.kind for fault in store.meta.faults] == ["zero_byte", "zero_byte"]
    whole = make(on_disk, tmp_path / "whole")
    assert {n: d for n, d in content(store.folder).items() if n != "store.json"} == {
        n: d for n, d in content(whole.folder).items() if n != "store.json"
    }

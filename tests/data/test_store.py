"""Reading a prepared store."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from stores import CLASSES, leaky, make, manifest, same_rows, small

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash, file_hash
from fer_lightning.data.store import prepare as preparing
from fer_lightning.data.store import shard as sharding
from fer_lightning.data.store.crop import central_square, resize
from fer_lightning.data.store.store import Store


@pytest.mark.parametrize(("codec", "tolerance"), [("raw", 0), ("png", 0), ("jpeg", 6)])
def test_images_come_back_as_rgb(tmp_path, codec, tolerance):
    store = make(small(tmp_path / "set"), tmp_path / "base", codec=codec)
    split = store.split("train")
    wanted = resize(central_square(cv2.imread(str(tmp_path / "set/train2.png"))), 32)[:, :, ::-1]
    image = split.image(2)
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert np.abs(image.astype(int) - wanted).mean() <= tolerance
    assert split.labels.tolist() == [0, 1, 0, 1]
    assert split.labels.dtype == split.groups.dtype == np.int64
    assert len(split) == 4
    assert same_rows(store, "test") == ["test0.png", "test1.png", "test2.png", "test3.png"]
    for wrong in (4, -1):
        with pytest.raises(IndexError):
            split.image(wrong)
    with pytest.raises(ValueError, match="not 'val'"):
        store.split("val")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_raw_images_are_views_of_the_file(tmp_path):
    store = make(small(tmp_path / "set"), tmp_path / "base")
    image = store.split("train").image(3)
    assert not image.flags.writeable
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(store.folder) in line]
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
    assert any(start <= image.ctypes.data < end for start, end in ranges)


def test_meta_tells_what_is_in_it(tmp_path):
    found = small(tmp_path / "set")
    calls = []
    store = make(found, tmp_path / "base", margin=0.3, progress=lambda *done: calls.append(done))
    said = json.loads((store.folder / "store.json").read_text())
    assert said["counts"] == {"train": {"happy": 2, "fear": 2}, "test": {"happy": 2, "fear": 2}}
    assert said["manifest_hash"] == found.hash()
    assert (said["size"], said["margin"], said["codec"], said["skipped"]) == (
        32,
        0.3,
        "raw",
        {"train": {"none": 3}},
    )
    for split in ("train", "test"):
        (shard,) = said["shards"][split]
        file = store.folder / f"{split}-00000.arrow"
        assert shard == {"name": file.name, "rows": 4, "bytes": file.stat().st_size, "sha256": file_hash(file)}
    digests = {split: [file_hash(store.folder / f"{split}-00000.arrow")] for split in ("train", "test")}
    assert said["hash"] == content_hash(digests)
    assert store.hash == said["hash"] == Store.open(store.folder).hash
    assert Store.open(store.folder).meta == store.meta
    assert store.classes == CLASSES
    assert calls[-1] == (8, 8)


def test_groups_are_identities_or_identical_pixels(tmp_path):
    found = leaky(tmp_path / "set")
    split = make(found, tmp_path / "base").split("train")
    groups = dict(zip([name.split(":")[1] for name in split.ids], split.groups.tolist(), strict=True))
    assert groups["twin.png"] == groups["train1.png"]
    assert len(set(groups.values())) == len(groups) - 1
    who = pa.array(["ann", None, "ann", None, *[None] * 4], pa.string())
    groups = make(small(tmp_path / "other", identity=who), tmp_path / "base").split("train").groups.tolist()
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3


def test_damaged_or_no_store(tmp_path):
    with pytest.raises(UserError, match="is no store"):
        Store.open(tmp_path)
    store = make(small(tmp_path / "set"), tmp_path / "base")
    shard = store.folder / "train-00000.arrow"
    data = shard.read_bytes()
    shard.write_bytes(data[:-10])
    with pytest.raises(UserError, match=r"damaged \(train-00000.arrow\)"):
        Store.open(store.folder)
    shard.write_bytes(data)
    (store.folder / "train-00001.arrow").write_bytes(data)
    with pytest.raises(UserError, match=r"damaged \(train-00001.arrow\)"):
        Store.open(store.folder)
    (store.folder / "train-00001.arrow").unlink()
    assert Store.open(store.folder).meta == store.meta
    shard.unlink()
    with pytest.raises(UserError, match=r"damaged \(train-00000.arrow\)"):
        Store.open(store.folder)
    (store.folder / "store.json").write_text('{"schema_version": 0}')
    with pytest.raises(UserError, match="not of schema version"):
        Store.open(store.folder)


def _sum_of_images(split):
    return [int(split.image(i).sum()) for i in range(len(split))]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(tmp_path, method):
    split = make(small(tmp_path / "set"), tmp_path / "base", codec="jpeg").split("train")
    here = _sum_of_images(split)
    assert len(pickle.dumps(split)) < 1000  # the path travels, not the pictures
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_sum_of_images, (split,)) == here
    assert _sum_of_images(split) == here


def test_rows_are_found_in_many_shards(tmp_path, monkeypatch):
    """Also where a shard holds no image at all, and where one was written in several batches."""
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 8)
    monkeypatch.setattr(sharding, "BATCH_BYTES", 3 * 32 * 32 * 3)
    extra = [(f"more{i}.png", "train", CLASSES[i % 2], None) for i in range(36)]
    found = small(tmp_path / "set", extra)
    for i in range(4, 12):  # the whole of the second shard
        (tmp_path / f"set/more{i}.png").unlink()
    (tmp_path / "set/more35.png").unlink()
    store = make(found, tmp_path / "base")
    split = store.split("train")
    assert [shard.rows for shard in store.meta.shards["train"]] == [8, 0, 8, 8, 7]
    names = same_rows(store, "train")
    assert len(split) == len(names) == len(split.labels) == len(split.groups) == 31
    for i, name in enumerate(names):
        wanted = resize(central_square(cv2.imread(str(tmp_path / "set" / name))), 32)[:, :, ::-1]
        assert (split.image(i) == wanted).all(), name


READER = """
import sys
from pathlib import Path
from fer_lightning.data.store.store import Store
def anonymous():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1])
split = Store.open(Path(sys.argv[1])).split("train")
split.labels
for i in range(200):
    split.image(i)
before = anonymous()
for _ in range(int(sys.argv[2])):
    for i in range(len(split)):
        split.image(i)
print(anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_reading_a_split_takes_no_memory_that_stays(tmp_path, monkeypatch, codec):
    monkeypatch.setattr(preparing.key, "SHARD_ROWS", 100)
    names = [(f"{i % 20}.png", "train", CLASSES[i % 2], None) for i in range(2000)]
    faces = [*names, *((f"test{i}.png", "test", CLASSES[i], None) for i in range(2))]
    store = make(manifest(tmp_path / "set", faces), tmp_path / "base", codec=codec, size=64)
    epochs = 3  # 74 MB of pixels
    done = subprocess.run(
        [sys.executable, "-c", READER, store.folder, str(epochs)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2000, "kB more after a few epochs"

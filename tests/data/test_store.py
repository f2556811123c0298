"""Preparing a store and reading it, on made-up pictures."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from fer_lightning.cache import file_hash
from fer_lightning.data import crop
from fer_lightning.data import prepare as preparing
from fer_lightning.data.crop import UnusableError, cut_out, decode, digest, resize
from fer_lightning.data.manifest import Manifest, make_rows
from fer_lightning.data.prepare import disk_estimate, prepare
from fer_lightning.data.store import Store
from fer_lightning.errors import UserError

CLASSES = ("happy", "fear")


def picture(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    """A smooth random picture, so that JPEG comes close to it."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)


def manifest(root: Path, faces, **more) -> Manifest:
    """``faces``: tuples (file name, split, label, box or None); a file is written where there is none yet."""
    root.mkdir(exist_ok=True)
    for seed, (name, *_) in enumerate(faces):
        if not (root / name).exists():
            cv2.imwrite(str(root / name), picture(seed))
    names, splits, labels, boxes = (list(column) for column in zip(*faces, strict=True))
    corners = zip(*[box or (None,) * 4 for box in boxes], strict=True)
    columns = dict(zip(("x", "y", "width", "height"), (pa.array(c, pa.int32()) for c in corners), strict=True))
    ids = [f"{i}:{name}" for i, name in enumerate(names)]
    table = make_rows({"id": ids, "path": names, "label": labels, "split": splits, **columns, **more})
    return Manifest("made-up", root, table, CLASSES, skipped={"none": 3})


def small(root: Path, extra=(), **more) -> Manifest:
    """Two images a class and split, and what a test adds."""
    faces = [(f"{split}{i}.png", split, CLASSES[i % 2], None) for split in ("train", "test") for i in range(4)]
    return manifest(root, [*faces, *extra], **more)


def make(found: Manifest, base: Path, **how):
    return prepare(found, base, **{"size": 32, "margin": 0.0, "codec": "raw", "processes": 1, **how})


def same_rows(store, split):
    return [value.split(":")[1] for value in store.split(split).ids]


@pytest.mark.parametrize(("codec", "tolerance"), [("raw", 0), ("png", 0), ("jpeg", 6)])
def test_images_come_back_as_rgb(tmp_path, codec, tolerance):
    store = make(small(tmp_path / "set"), tmp_path / "base", codec=codec)
    split = store.split("train")
    wanted = resize(cv2.imread(str(tmp_path / "set/train2.png")), 32)[:, :, ::-1]
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
    assert (said["size"], said["margin"], said["codec"], said["skipped"]) == (32, 0.3, "raw", {"none": 3})
    assert said["sha256"] == {name: file_hash(store.folder / f"{name}.arrow") for name in ("train", "test")}
    assert store.hash == said["hash"] == Store.open(store.folder).hash
    assert Store.open(store.folder).meta == store.meta
    assert store.classes == CLASSES
    assert calls[-1] == (8, 8)


def test_a_store_that_is_there_is_opened(tmp_path, monkeypatch):
    found = small(tmp_path / "set")
    first = make(found, tmp_path / "base")
    monkeypatch.setattr(preparing, "crop_all", None)
    (tmp_path / "set/train0.png").unlink()
    assert make(found, tmp_path / "base", processes=2).folder == first.folder
    assert sorted(entry.name for entry in (tmp_path / "base").iterdir() if entry.is_dir()) == [first.folder.name]


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
    monkeypatch.setattr(preparing, "CHUNK_ROWS", 16)
    extra = [(f"more{i}.png", "train", CLASSES[i % 2], (i % 40, 2, 9, 9)) for i in range(60)]
    found = small(tmp_path / "set", [*extra, ("gone.png", "train", "fear", None)])
    (tmp_path / "set/gone.png").unlink()
    one, two = (make(found, tmp_path / name, codec="jpeg", processes=n) for name, n in (("one", 1), ("two", 2)))
    for name in ("train.arrow", "test.arrow", "store.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert len(pa.ipc.open_file(one.folder / "train.arrow").read_all()["image"].chunks) == 4
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


def test_workers_refuse_a_picture_over_the_limit(tmp_path):
    """A file that is sound but says 200 million pixels; only a fresh process obeys the limit."""
    header = bytearray(cv2.imencode(".bmp", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    header[18:26] = (20_000).to_bytes(4, "little") + (10_000).to_bytes(4, "little")
    (tmp_path / "bomb.bmp").write_bytes(header)
    code = (
        "import sys, pathlib; from fer_lightning.data import crop\n"
        "try: crop.decode(pathlib.Path(sys.argv[1]))\n"
        "except crop.UnusableError as error: print(error.kind)\n"
        # not getrusage: its peak is inherited from the process that forked this one
        "status = pathlib.Path('/proc/self/status')\n"
        "lines = status.read_text().splitlines() if status.exists() else ['VmHWM: 0 kB']\n"
        "(peak,) = [int(line.split()[1]) for line in lines if line.startswith('VmHWM')]\n"
        "assert peak < 300_000, peak"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "bomb.bmp"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("unreadable\n", 0), done.stderr


def test_boxes():
    whole = picture(0, 40, 50)
    assert (cut_out(whole, (10, 5, 20, 10), 0.0) == whole[5:15, 10:30]).all()
    assert (cut_out(whole, (10, 5, 20, 10), 0.2) == whole[3:17, 6:34]).all()
    assert (cut_out(whole, (10, 5, 20, 10), 4.0) == whole).all()
    assert (cut_out(whole, (-5, 30, 20, 100), 0.0) == whole[30:40, 0:15]).all()
    assert cut_out(whole, None, 0.3) is whole
    for outside in ((50, 0, 5, 5), (0, 40, 5, 5), (-5, 0, 5, 5), (0, -5, 5, 5), (3, 3, 0, 5), (3, 3, 5, -5)):
        with pytest.raises(UnusableError, match="box_outside"):
            cut_out(whole, outside, 1.0)


KINDS = {
    ".jpg": ("colour", "grey"),
    ".png": ("colour", "grey", "alpha", "deep"),
    ".bmp": ("colour", "grey", "alpha"),
    ".tif": ("colour", "grey", "alpha", "deep"),
}


@pytest.mark.parametrize(("suffix", "kind"), [(suffix, kind) for suffix, kinds in KINDS.items() for kind in kinds])
def test_every_kind_of_picture_has_three_channels(tmp_path, suffix, kind):
    colour = picture(3)
    made = {
        "colour": colour,
        "grey": colour[:, :, 0],
        "alpha": cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA),
        "deep": colour.astype(np.uint16) * 257,
    }[kind]
    cv2.imwrite(str(tmp_path / f"a{suffix}"), made)
    (tmp_path / f"a{suffix}").rename(tmp_path / "a.JPEG")  # the content decides, not the name
    read = decode(tmp_path / "a.JPEG")
    assert (read.shape, read.dtype) == ((40, 50, 3), np.uint8)
    assert (read[:, :, 0] == read[:, :, 2]).all() == (kind == "grey")


def test_digest_sees_pixels_and_shape():
    face = picture(0, 20, 30)
    changed = face.copy()
    changed[3, 4, 1] ^= 1
    assert digest(face) == digest(np.ascontiguousarray(face)) == digest(picture(0, 20, 30)[:, :])
    assert len({digest(face), digest(changed), digest(face.reshape(30, 20, 3))}) == 3


def leaky(root: Path) -> Manifest:
    """train0 (happy) is test1's (fear) picture in another file format; one more twin inside training."""
    found = small(root, [("copy.bmp", "train", "happy", None), ("twin.png", "train", "fear", None)])
    cv2.imwrite(str(root / "copy.bmp"), cv2.imread(str(root / "test1.png")))
    cv2.imwrite(str(root / "twin.png"), cv2.imread(str(root / "train1.png")))
    return found


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
    assert len([entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()]) == 2


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
    assert not [entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()]


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

    monkeypatch.setattr(preparing.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        make(found, tmp_path / "base")
    assert not [entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()]


def test_damaged_or_no_store(tmp_path):
    with pytest.raises(UserError, match="is no store"):
        Store.open(tmp_path)
    store = make(small(tmp_path / "set"), tmp_path / "base")
    data = (store.folder / "train.arrow").read_bytes()
    (store.folder / "train.arrow").write_bytes(data[:-10])  # cut
    with pytest.raises(UserError, match="damaged"):
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


def test_the_root_is_never_written_to(tmp_path):
    found = small(tmp_path / "set", [("none.png", "train", "fear", None)])
    (tmp_path / "set/none.png").write_bytes(b"")

    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (tmp_path / "set").rglob("*")}

    before = (state(), (tmp_path / "set").stat().st_mtime_ns)
    make(found, tmp_path / "base", processes=2)
    assert (state(), (tmp_path / "set").stat().st_mtime_ns) == before


SCRIPT = """
import os, pathlib, signal, sys, time
sys.path.insert(0, sys.argv[1])
from test_store import make, small
tmp = pathlib.Path(sys.argv[2])
mode = sys.argv[3]
def progress(done, rows):
    print("working", flush=True)
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
print(make(small(tmp / "set"), tmp / "base", processes=2, progress=progress).hash)
"""


def _start(tmp_path, mode):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_kill_leaves_nothing_that_looks_whole(tmp_path):
    found = small(tmp_path / "set")
    killed = _start(tmp_path, "killed")
    out, _ = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert out == "working\n"
    left = [entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()]
    assert [entry.suffix for entry in left] == [".partial"]
    store = make(found, tmp_path / "base")
    assert store.meta.counts["train"] == {"happy": 2, "fear": 2}
    assert [entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()] == [store.folder]


def test_two_processes_at_once_make_it_once(tmp_path):
    small(tmp_path / "set")
    both = [_start(tmp_path, "slow") for _ in range(2)]
    said = [process.communicate(timeout=60)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(words) for words in said) == [1, 3]  # one of them worked, in two steps
    assert said[0][-1] == said[1][-1]
    assert len([entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()]) == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_workers_go_when_their_parent_is_killed(tmp_path):
    small(tmp_path / "set")
    process = _start(tmp_path, "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    workers = _children(process.pid)
    assert workers
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_a_worker_that_dies_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_lightning.data.workers.start_worker", _die)
    with pytest.raises(UserError, match="a process that reads pictures died"):
        make(small(tmp_path / "set"), tmp_path / "base", processes=2)
    assert not [entry for entry in (tmp_path / "base").iterdir() if entry.is_dir()]


def _die():
    os._exit(9)


def test_disk_estimate(tmp_path):
    extra = [(f"more{i}.png", "train", CLASSES[i % 2], None) for i in range(200)]
    found = small(tmp_path / "set", extra)
    for codec in ("raw", "png", "jpeg"):
        used = sum(make(found, tmp_path / "base", size=64, codec=codec).meta.bytes.values())
        assert used <= disk_estimate(208, 64, codec)
    raw = sum(make(found, tmp_path / "base", size=64, codec="raw").meta.bytes.values())
    assert raw == pytest.approx(disk_estimate(208, 64, "raw"), rel=0.05)


def test_manifest_hash_sees_every_column_but_not_the_root_or_the_chunks(tmp_path):
    found = small(tmp_path / "a")
    assert small(tmp_path / "b").hash() == found.hash()
    halves = pa.concat_tables([found.rows.slice(0, 3), found.rows.slice(3)])
    assert Manifest("made-up", tmp_path, halves, CLASSES).hash() == found.hash()
    seen = {found.hash(), Manifest("made-up", tmp_path, found.rows, CLASSES[::-1]).hash()}
    for name in found.rows.column_names:
        column = found.rows[name]
        other = pa.array(["?"] * 8) if pa.types.is_string(column.type) else pa.array([1] * 8)
        table = make_rows({**{n: found.rows[n] for n in found.rows.column_names}, name: other})
        seen.add(Manifest("made-up", tmp_path, table, CLASSES).hash())
    assert len(seen) == 2 + found.rows.num_columns


def test_crop_limit_is_set_before_opencv_is_loaded():
    assert int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]) == crop.MAX_PIXELS

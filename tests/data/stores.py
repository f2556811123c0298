"""Stores of made-up pictures, for the tests of preparing and reading them."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from fer_lightning.data.manifest import Manifest, make_rows
from fer_lightning.data.store.prepare import prepare

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
    return Manifest("made-up", root, table, CLASSES, skipped={"train": {"none": 3}})


def small(root: Path, extra=(), **more) -> Manifest:
    """Two images a class and split, and what a test adds."""
    faces = [(f"{split}{i}.png", split, CLASSES[i % 2], None) for split in ("train", "test") for i in range(4)]
    return manifest(root, [*faces, *extra], **more)


def make(found: Manifest, base: Path, **how):
    return prepare(found, base, **{"size": 32, "margin": 0.0, "codec": "raw", "processes": 1, **how})


def same_rows(store, split):
    return [value.split(":")[1] for value in store.split(split).ids]


def leaky(root: Path) -> Manifest:
    """train0 (happy) is test1's (fear) picture in another file format; one more twin inside training."""
    found = small(root, [("copy.bmp", "train", "happy", None), ("twin.png", "train", "fear", None)])
    cv2.imwrite(str(root / "copy.bmp"), cv2.imread(str(root / "test1.png")))
    cv2.imwrite(str(root / "twin.png"), cv2.imread(str(root / "train1.png")))
    return found


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def folders(base: Path) -> list[str]:
    """The stores in a folder, whole or partial."""
    return sorted(entry.name for entry in base.iterdir() if entry.is_dir())


def big(root: Path) -> Manifest:
    """400 training rows, boxes in a few pictures; a moment's work each."""
    boxes = [(f"train{i % 4}.png", "train", CLASSES[i % 2], (i % 30, i % 20, 20, 20)) for i in range(396)]
    return small(root, boxes)

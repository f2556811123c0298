"""What large data sets cost, on made-up ones: reading AffectNet's annotations, opening a store, loading an epoch.

    python experiments/benchmarks/scale.py                                  # two minutes, 2 GB of temporary files
    python experiments/benchmarks/scale.py --rows 500 3000 --images 2000    # tries it out

Each number is of a fresh process that imports what it needs and no more. There are no picture files: annotations
are read without them, and the store's pictures are a few pixels each. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.core.emotions import AFFECTNET_CODES, AFFECTNET_TRAIN_COUNTS, EMOTIONS

TEST_ROWS = 4000
MINIVAL, SEED = 0.1, 0
LANDMARKS = ";".join(f"{100 + i}.25;{200 + i}.75" for i in range(68))
Told = dict[str, float]


def emotions(rows: int) -> list[int]:
    """Indices into EMOTIONS in AffectNet's proportions, shuffled."""
    ends = np.round(np.cumsum(AFFECTNET_TRAIN_COUNTS) / sum(AFFECTNET_TRAIN_COUNTS) * rows)
    labels = np.searchsorted(ends, np.arange(rows), side="right")
    return np.random.default_rng(SEED).permutation(labels).tolist()


def test_emotions() -> list[int]:
    """As many of each."""
    return [i % len(EMOTIONS) for i in range(TEST_ROWS)]


def write_annotations(folder: Path, rows: int) -> None:
    """AffectNet's old release without its pictures."""
    from fer_lightning.data.readers.affectnet import COLUMNS

    (folder / "Manually_Annotated_Images").mkdir(parents=True)
    codes = {name: code for code, name in AFFECTNET_CODES.items()}
    for name, labels in (("training", emotions(rows)), ("validation", test_emotions())):
        with (folder / f"{name}.csv").open("w") as stream:
            stream.write(",".join(COLUMNS) + "\n")
            for i, label in enumerate(labels):
                where = f"{i % 1200}/{name[0]}{i:055x}.jpg,{i % 90},{i % 80},250,250"
                stream.write(f"{where},{LANDMARKS},{codes[EMOTIONS[label]]},-0.017253,0.004313\n")


def timed(told: Told, step: str, work: Callable[[], Any]) -> Any:
    """What ``work`` returns; its seconds are told."""
    begin = time.perf_counter()
    result = work()
    told[step] = time.perf_counter() - begin
    return result


def memory(line: str, pid: int | None = None) -> float:
    """MB of a process, this one by default, by the name that /proc gives them."""
    text = Path(f"/proc/{pid or 'self'}/status").read_text()
    return next(int(words[1]) / 1024 for words in map(str.split, text.splitlines()) if words[0] == f"{line}:")


def read(folder: Path) -> Told:
    """Seconds of each step from annotations to a minival, and the memory at most."""
    from fer_lightning.data.readers import affectnet
    from fer_lightning.data.split import minival, with_test_split

    told: Told = {}
    found = timed(told, "read", lambda: affectnet.read(str(folder), EMOTIONS))
    manifest = timed(told, "test_split", lambda: with_test_split(found, "val"))
    timed(told, "hash", manifest.hash)
    timed(told, "counts", lambda: [manifest.counts(split) for split in ("train", "test")])
    timed(told, "check", manifest.check)
    train = manifest.rows.slice(0, len(manifest.rows) - TEST_ROWS)
    codes = [train[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in ("label", "path")]
    timed(told, "minival", lambda: minival(*codes, MINIVAL, SEED))
    return {**told, "seconds": sum(told.values()), "peak_mb": memory("VmHWM")}


def pictures(paths: Sequence[str]) -> Iterator[bytes]:
    """A picture of 4 x 4 pixels for each name, no two the same."""
    return (b"P6 4 4 255\n" + path.encode().ljust(48) for path in paths)


def prepare(folder: Path, images: int) -> Told:
    """Seconds to make a store of made-up faces."""
    import pyarrow as pa

    from fer_lightning.data.manifest import Manifest, make_rows
    from fer_lightning.data.store.prepare import prepare

    labels = [EMOTIONS[label] for label in (*emotions(images), *test_emotions())]
    names = [f"picture {i}" for i in range(len(labels))]
    splits = ["train"] * images + ["test"] * TEST_ROWS
    rows = make_rows({"id": names, "path": names, "label": pa.array(labels), "split": pa.array(splits)})
    manifest = Manifest("made-up", folder, rows, EMOTIONS, embedded=pictures)
    told: Told = {}
    timed(told, "seconds", lambda: prepare(manifest, folder, size=8, margin=0.0, codec="jpeg"))
    return {**told, "peak_mb": memory("VmHWM")}


def open_store(folder: Path) -> Told:
    """Seconds until the first image is there, and until the minival is carved."""
    from fer_lightning.data.split import minival
    from fer_lightning.data.store.store import Store

    def opened() -> Any:
        split = Store.open(next(folder.glob("made-up-*/"))).split("train")
        assert len(split.labels) == len(split)
        split.image(0)
        return split

    told: Told = {}
    split = timed(told, "seconds", opened)
    timed(told, "groups", lambda: split.groups)
    timed(told, "minival", lambda: minival(split.labels, split.groups, MINIVAL, SEED))
    return {**told, "peak_mb": memory("VmHWM")}


def load(folder: Path) -> Told:
    """How much a loading worker grows over an epoch, after its first tenth."""
    from multiprocessing import active_children

    import torch
    from torch.utils.data import DataLoader

    from fer_lightning.data.datamodule import FaceDataset, as_it_is
    from fer_lightning.data.store.store import Store

    split = Store.open(next(folder.glob("made-up-*/"))).split("train")
    order = np.random.default_rng(SEED).permutation(len(split))
    faces = FaceDataset(split, order, torch.from_numpy(split.labels[order]), split.size)
    loader = DataLoader(faces, batch_size=256, collate_fn=as_it_is, num_workers=1, persistent_workers=True)
    used = [memory("RssAnon", active_children()[0].pid) for _ in loader]
    return {"begin_mb": used[len(used) // 10], "end_mb": used[-1], "growth_mb": used[-1] - used[len(used) // 10]}


def fresh(step: Callable[..., Told], folder: Path, *words: int) -> Told:
    """What a step tells in a process of its own."""
    command = [sys.executable, __file__, "--step", step.__name__, str(folder), *map(str, words)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(rows: Sequence[int], images: int) -> dict[str, Any]:
    """All of it."""
    manifests = {}
    with tempfile.TemporaryDirectory() as name:
        for count in rows:
            folder = Path(name) / str(count)
            write_annotations(folder, count)
            manifests[count] = fresh(read, folder)
            (folder / "training.csv").unlink()
        base = Path(name) / "stores"
        base.mkdir()
        store = {
            "prepare": fresh(prepare, base, images),
            "open": fresh(open_store, base),
            "load": fresh(load, base),
        }
    few, many = min(rows), max(rows)
    growth = math.log(manifests[many]["seconds"] / manifests[few]["seconds"]) / math.log(many / few)
    return {"cpus": len(os.sched_getaffinity(0)), "manifest": manifests, "growth_exponent": growth, "store": store}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000, 287_651, 1_000_000])
    parser.add_argument("--images", type=int, default=287_651, help="in the store")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, folder, *words = options.step
        steps = {step.__name__: step for step in (read, prepare, open_store, load)}
        told: dict[str, Any] = dict(steps[name](Path(folder), *map(int, words)))
    else:
        told = measure(options.rows, options.images)
    print(json.dumps(json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 3)), indent=2))


if __name__ == "__main__":
    main()

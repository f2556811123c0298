"""Manifest -> store: every face is decoded, cropped and resized once, in parallel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.cache import atomic_folder, content_hash, file_hash, locked
from fer_lightning.data.crop import RESIZE, Codec, Crop, Recipe, Task, UnusableError, crop_all
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.store import META, SCHEMA_VERSION, Store, StoreMeta, schema
from fer_lightning.data.workers import processes_for, tasks, workers
from fer_lightning.errors import UserError

Leaks = Literal["drop", "keep", "error"]
Progress = Callable[[int, int], None]
Results = list[Crop | UnusableError]
Mapper = Callable[[Iterable[Task]], Iterator[Results]]

CHUNK_BYTES = 8 * 2**20
CHUNK_ROWS = 256
BYTES_A_PIXEL = {"jpeg": 0.55, "png": 2.2, "raw": 3.0}
BYTES_A_ROW = {"jpeg": 900, "png": 400, "raw": 300}


def disk_estimate(rows: int, size: int, codec: Codec) -> int:
    """Bytes that a store of ``rows`` faces will take at most or nearly so; exact to a few percent for raw."""
    return int(rows * (size * size * BYTES_A_PIXEL[codec] + BYTES_A_ROW[codec]))


def prepare(
    manifest: Manifest,
    base: Path,
    *,
    size: int,
    margin: float,
    codec: Codec,
    leaks: Leaks = "drop",
    processes: int | None = None,
    progress: Progress | None = None,
) -> Store:
    """Make the store of a manifest, or open it where it was made before.

    It lies in ``base/<name>-<8 hex digits>``, named after everything that decides its content except the
    pictures themselves: delete the folder after mending pictures. Two processes that ask for it at once make
    it once; a kill leaves nothing that looks whole. The data set's root is only read.

    Args:
        manifest: what a reader found.
        base: folder of the stores.
        size: side of the kept pictures in pixels.
        margin: share of the box it is grown by on each side, then clipped to the picture.
        codec: "jpeg" (quality 95), "png" or "raw".
        leaks: what to do with training images that are pixel-identical to a test image: "drop" them, "keep"
            them, or "error".
        processes: how many work; None: one for each CPU, fewer for a small set. No influence on the result.
        progress: called with (rows done, rows).

    Raises:
        ValueError: a number out of range, an unknown codec or value of ``leaks``, or a manifest with a label
            that is none of its classes.
        UserError: a class without an image, leaks where they are an error, ``base`` cannot be written to.
    """
    recipe = Recipe(size, float(margin), codec)
    if leaks not in ("drop", "keep", "error"):
        raise ValueError(f"leaks must be drop, keep or error, not {leaks!r}")
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    _require_known_names(manifest)
    folder = _folder(manifest, base, recipe, leaks)
    if not (folder / META).is_file():
        counts = {split: manifest.counts(split) for split in ("train", "test")}
        _require_every_class(counts, manifest.name, manifest.faults)
        needed = disk_estimate(manifest.rows.num_rows, size, codec)
        try:
            with locked(folder):
                _make(folder, manifest, recipe, leaks, needed, processes, progress)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"the store cannot be written to {base}: {reason}; it needs about {needed / 1e9:.2f} GB, "
                "set FER_CACHE to a folder that has them"
            ) from error
    return Store.open(folder)


def is_prepared(
    manifest: Manifest, base: Path, *, size: int, margin: float, codec: Codec, leaks: Leaks = "drop"
) -> bool:
    """Whether ``prepare`` with these arguments has nothing left to do."""
    return (_folder(manifest, base, Recipe(size, float(margin), codec), leaks) / META).is_file()


def _folder(manifest: Manifest, base: Path, recipe: Recipe, leaks: Leaks) -> Path:
    decides = [SCHEMA_VERSION, manifest.hash(), recipe.size, recipe.margin, recipe.codec, leaks, RESIZE]
    return base / f"{manifest.name}-{content_hash(decides)[:8]}"


def _make(
    folder: Path,
    manifest: Manifest,
    recipe: Recipe,
    leaks: Leaks,
    needed: int,
    processes: int | None,
    progress: Progress | None,
) -> None:
    """Fill the store's folder, unless somebody else did while we waited for the lock."""
    if folder.exists():
        return
    for leftover in folder.parent.glob(f".{folder.name}.*.partial"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    if (free := shutil.disk_usage(folder.parent).free) < needed:
        raise OSError(f"only {free / 1e9:.2f} GB are free")
    rows = manifest.rows.num_rows
    count = processes or processes_for(rows)
    with atomic_folder(folder) as partial, workers(crop_all, count) as mapper:
        meta = _fill(partial, manifest, recipe, leaks, mapper, _Ticker(rows, progress))
        (partial / META).write_text(meta.to_json())


class _Ticker:
    """Counts rows over both splits for the caller's progress."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self.total = total
        self.progress = progress

    def add(self, rows: int) -> None:
        self.done += rows
        if self.progress:
            self.progress(self.done, self.total)


def _fill(
    folder: Path, manifest: Manifest, recipe: Recipe, leaks: Leaks, mapper: Mapper, ticker: _Ticker
) -> StoreMeta:
    """Write both splits; the test set first, since training rows are compared with it."""
    faults = list(manifest.faults)
    classes = manifest.classes

    def batches(split: str) -> Iterator[pa.RecordBatch]:
        rows = manifest.rows.filter(pc.equal(manifest.rows["split"], split))
        return _batches(rows, manifest, recipe, mapper, faults, ticker)

    test = _write(folder / "test.arrow", schema(classes), batches("test"))
    twins: list[pa.RecordBatch] = []
    kept = _without_twins(batches("train"), test["pixels"].combine_chunks(), leaks, twins)
    train = _write(folder / "train.arrow", schema(classes), kept)

    leaked = pa.Table.from_batches(twins, test.schema)
    if leaks == "error" and len(leaked):
        raise UserError(
            f"{manifest.name}: {len(leaked)} training images are pixel-identical to a test image "
            f"(by class: {_count(leaked, classes)}); data.leaks=drop leaves them out"
        )
    counts = {"train": _count(train, classes), "test": _count(test, classes)}
    _require_every_class(counts, manifest.name, faults)
    files = {split: folder / f"{split}.arrow" for split in counts}
    sha256 = {split: file_hash(file) for split, file in files.items()}
    return StoreMeta(
        schema_version=SCHEMA_VERSION,
        name=manifest.name,
        classes=classes,
        size=recipe.size,
        margin=recipe.margin,
        codec=recipe.codec,
        resize=RESIZE,
        leaks=leaks,
        manifest_hash=manifest.hash(),
        counts=counts,
        skipped=manifest.skipped,
        dropped_leaks=_count(leaked.slice(0, 0 if leaks == "keep" else None), classes),
        test_leaks=_count(test.filter(pc.is_in(test["pixels"], leaked["pixels"].combine_chunks())), classes),
        faults=tuple(faults),
        sha256=sha256,
        bytes={split: file.stat().st_size for split, file in files.items()},
        hash=content_hash(sha256),
        tested_on=manifest.tested_on,
        redistributable=manifest.redistributable,
    )


def _batches(
    rows: pa.Table,
    manifest: Manifest,
    recipe: Recipe,
    mapper: Mapper,
    faults: list[Fault],
    ticker: _Ticker,
) -> Iterator[pa.RecordBatch]:
    """The rows' faces, a batch a chunk, in order; what cannot be used becomes a fault."""
    step = max(16, min(CHUNK_ROWS, CHUNK_BYTES // (3 * recipe.size**2)))  # never by processes: same bytes
    chunks = [rows.slice(start, step) for start in range(0, len(rows), step)]
    for chunk, results in zip(chunks, mapper(tasks(manifest, chunks, recipe)), strict=True):
        for row_id, result in zip(chunk["id"].to_pylist(), results, strict=True):
            if isinstance(result, UnusableError):
                faults.append(Fault(result.kind, row_id, result.detail))
        yield _batch(chunk, results, manifest.classes)
        ticker.add(len(chunk))


def _batch(chunk: pa.Table, results: Results, classes: tuple[str, ...]) -> pa.RecordBatch:
    usable = [isinstance(result, Crop) for result in results]
    crops = [result for result in results if isinstance(result, Crop)]
    rows = chunk.filter(pa.array(usable, pa.bool_())).combine_chunks()
    names = pa.array(classes, pa.string())
    index = pc.index_in(rows["label"], names).combine_chunks().cast(pa.int16())
    columns = {
        "id": rows["id"],
        "label": pa.DictionaryArray.from_arrays(index, names),
        "image": pa.array([crop.image for crop in crops], pa.binary()),
        "pixels": pa.array([crop.pixels for crop in crops], pa.string()),
        **{name: rows[name] for name in ("identity", "valence", "arousal")},
    }
    arrays = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns.values()]
    return pa.RecordBatch.from_arrays(arrays, schema=schema(classes))


def _without_twins(
    batches: Iterable[pa.RecordBatch], test_pixels: pa.Array, leaks: Leaks, twins: list[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The training batches less their leaks (where they are to be dropped); the leaks go to ``twins``."""
    for batch in batches:
        twin = pc.is_in(batch["pixels"], test_pixels)
        twins.append(batch.filter(twin).select(["label", "pixels"]))
        yield batch if leaks == "keep" else batch.filter(pc.invert(twin))


def _write(file: Path, columns: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Write batches to a file that is on the disk when this returns; gives back labels and digests."""
    narrow = [columns.empty_table().select(["label", "pixels"])]
    with file.open("wb") as stream:
        with pa.ipc.new_file(stream, columns) as writer:
            for batch in batches:
                if batch.num_rows:
                    writer.write_batch(batch)
                    narrow.append(pa.Table.from_batches([batch.select(["label", "pixels"])]))
        stream.flush()
        os.fsync(stream.fileno())
    return pa.concat_tables(narrow)


def _count(table: pa.Table, classes: Sequence[str]) -> dict[str, int]:
    indices = [chunk.indices.to_numpy() for chunk in table["label"].chunks]
    counts = np.bincount(np.concatenate([np.empty(0, np.int64), *indices]), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _require_known_names(manifest: Manifest) -> None:
    """A reader's mistake, not a user's; unnoticed it would end in wrong labels."""
    for column, known in (("label", manifest.classes), ("split", ("train", "test"))):
        if unknown := set(pc.unique(manifest.rows[column]).to_pylist()) - set(known):
            raise ValueError(f"the manifest of {manifest.name} has the unknown {column} {min(unknown)!r}")


def _require_every_class(counts: dict[str, dict[str, int]], name: str, faults: Sequence[Fault]) -> None:
    for split, by_class in counts.items():
        for label, images in by_class.items():
            if images == 0:
                known = f" ({len(faults)} rows were set aside, the last: {faults[-1]})" if faults else ""
                raise UserError(
                    f"{name}: class {label!r} has no {'training' if split == 'train' else 'test'} image{known}; "
                    "leave it out of the classes or mend the data"
                )

"""From manifest to store: decode, crop and resize every face once, in parallel; resumable shard by shard."""

from __future__ import annotations

import logging
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash, locked, write_atomic
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Manifest, require_every_class
from fer_lightning.data.store.crop import RESIZE, Codec, Recipe
from fer_lightning.data.store.shard import (
    BATCH_BYTES,
    WORK,
    Job,
    Part,
    Report,
    earlier_report,
    put_pictures,
    write,
)
from fer_lightning.data.store.store import META, SCHEMA_VERSION, SPLITS, Store, StoreMeta, StoreSplit, read_table
from fer_lightning.data.store.workers import processes_for, workers
from fer_lightning.data.unread import in_words, unread

Leaks = Literal["drop", "keep", "error"]
Reports = dict[str, list[Report]]

log = logging.getLogger(__name__)

SHARD_ROWS = 512  # about as many rows of work are lost when a process is killed
MOST_SHARDS = 256  # per split, since a process may have no more than 1,024 files open
BYTES_A_PIXEL = {"jpeg": 0.55, "png": 2.2, "raw": 3.0}
BYTES_A_ROW = {"jpeg": 900, "png": 400, "raw": 300}


def disk_estimate(rows: int, size: int, codec: Codec) -> int:
    """Return about the most bytes that a store of ``rows`` faces takes; exact to a few percent for raw."""
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
    """Make the store of a manifest, or open it if it exists.

    It lies in ``base/<name>-<8 hex digits>``, named after everything that decides its content except the
    pictures themselves: delete the folder after repairing pictures. It is written to
    ``base/<that name>.partial``, where the next process continues the work of a killed one. If two processes
    ask for it at once, one of them makes it. The data set's root is only read.

    Args:
        manifest: rows of the data set.
        base: folder of the stores.
        size: side of the stored pictures in pixels.
        margin: share of its size by which the box grows on each side before it is clipped to the picture.
        codec: "jpeg" (quality 95), "png" or "raw".
        leaks: what to do with training images that are pixel-identical to a test image: "drop" them, "keep"
            them, or "error".
        processes: number of processes; None starts one per CPU, fewer for a small set. It does not influence the
            result.
        progress: callback that receives (rows done, rows), first with the rows that were done before.

    Raises:
        ValueError: a number out of range, an unknown codec or value of ``leaks``, or a manifest with a label
            that is none of its classes.
        UserError: a class without an image, leaks where they are an error, or ``base`` cannot be written to.
    """
    recipe = Recipe(size=size, margin=margin, codec=codec)
    if leaks not in ("drop", "keep", "error"):
        raise ValueError(f"leaks must be drop, keep or error, not {leaks!r}")
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    folder = _folder(manifest, base, recipe, leaks)
    if not (folder / META).is_file():
        manifest.check()
        try:
            with locked(folder):
                if not folder.exists():  # another process may have made it during the wait for the lock
                    _make(folder, manifest, recipe, leaks == "keep", processes, progress)
        except OSError as error:
            needed = disk_estimate(manifest.rows.num_rows, size, codec)
            raise UserError(
                f"the store cannot be written to {base}: {error.strerror or error}; it needs about "
                f"{needed / 1e9:.2f} GB in all: make room and run the same again (it goes on where it is), or set "
                "FER_CACHE to a folder that has them"
            ) from error
    store = Store.open(folder)
    if leaks == "error" and (leaked := sum(store.meta.dropped_leaks.values())):
        raise UserError(
            f"{manifest.name}: {leaked} training images are pixel-identical to a test image "
            f"(by class: {store.meta.dropped_leaks}); data.leaks=drop leaves them out"
        )
    return store


def is_prepared(
    manifest: Manifest, base: Path, *, size: int, margin: float, codec: Codec, leaks: Leaks = "drop"
) -> bool:
    """Return whether ``prepare`` with these arguments has nothing left to do."""
    return (_folder(manifest, base, Recipe(size=size, margin=margin, codec=codec), leaks) / META).is_file()


def _folder(manifest: Manifest, base: Path, recipe: Recipe, leaks: Leaks) -> Path:
    """Return the store's folder, named after everything that decides its content."""
    stored = "keep" if leaks == "keep" else "drop"  # "error" makes the store of "drop", for a later run with that
    key = [SCHEMA_VERSION, manifest.hash(), recipe.size, recipe.margin, recipe.codec, stored, RESIZE]
    key += [SHARD_ROWS, MOST_SHARDS, BATCH_BYTES]
    key += ["links are followed"] if manifest.follow_links else []
    return base / f"{manifest.name}-{content_hash(key)[:8]}"


def _make(
    folder: Path,
    manifest: Manifest,
    recipe: Recipe,
    keep_leaks: bool,
    processes: int | None,
    progress: Progress | None,
) -> None:
    """Add the missing shards to the partial store; when it is whole, rename it to ``folder``."""
    partial = folder.with_name(f"{folder.name}.partial")
    if not (partial / META).is_file():
        _remove_leftovers(partial)
        job = Job(partial, manifest.root, manifest.classes, recipe, not keep_leaks, manifest.links_within)
        reports = _fill(job, manifest, processes, progress)
        try:
            meta = _meta(manifest, recipe, keep_leaks, reports, _test_split(job, len(reports["test"])))
        except UserError:
            shutil.rmtree(partial)  # so that the next run reads repaired pictures again
            raise
        write_atomic(partial / META, meta.to_json())
    shutil.rmtree(partial / WORK, ignore_errors=True)
    partial.replace(folder)


def _fill(job: Job, manifest: Manifest, processes: int | None, progress: Progress | None) -> Reports:
    """Write the missing shards; the test set comes first, since training rows are compared with it."""
    parts = {split: _parts(job, split, manifest.rows) for split in ("test", "train")}
    reports = {part: report for part in chain(*parts.values()) if (report := earlier_report(part))}
    total = manifest.rows.num_rows

    def report_progress() -> int:
        done = sum(part.rows for part in reports)
        if progress:
            progress(done, total)
        return done

    done = report_progress()
    if reports:
        log.info("%s: %d of %d rows were prepared before", job.folder.stem, done, total)
    _require_space(job, total, sum(report.shard.bytes for report in reports.values()))
    with workers(write, processes or processes_for(total)) as write_all:
        for split, shards in parts.items():
            missing = [part for part in shards if part not in reports]
            for part, report in zip(missing, write_all(_with_pictures(missing, manifest)), strict=True):
                reports[part] = report
                part.pictures_file.unlink(missing_ok=True)
                report_progress()
            if split == "test":
                write_atomic(job.test_pixels_file, "\n".join(_test_split(job, len(shards)).pixels.to_pylist()))
    return {split: [reports[part] for part in shards] for split, shards in parts.items()}


def _test_split(job: Job, shards: int) -> StoreSplit:
    return StoreSplit(job.folder, "test", shards, job.recipe.size, job.recipe.codec)


def _remove_leftovers(partial: Path) -> None:
    """Create the partial store, or delete everything in it but whole shards and their reports."""
    (partial / WORK).mkdir(parents=True, exist_ok=True)
    whole = [*partial.glob("*.arrow"), *(partial / WORK).glob("*.json")]
    for file in {file for file in partial.rglob("*") if file.is_file()}.difference(whole):
        file.unlink(missing_ok=True)  # a worker of the killed process may still be ending


def _parts(job: Job, split: str, rows: pa.Table) -> list[Part]:
    """Write a split's rows to a file; return its shards, about equal in size, whatever the number of processes."""
    rows = rows.filter(pc.equal(rows["split"], split))
    with job.rows_file(split).open("wb") as stream, pa.ipc.new_file(stream, rows.schema) as writer:
        writer.write_table(rows)
    shards = min(MOST_SHARDS, math.ceil(len(rows) / SHARD_ROWS))
    ends = [len(rows) * number // shards for number in range(shards + 1)]
    return [Part(job, split, number, *ends) for number, ends in enumerate(pairwise(ends))]


def _require_space(job: Job, rows: int, written: int) -> None:
    needed = disk_estimate(rows, job.recipe.size, job.recipe.codec) - written
    if (free := shutil.disk_usage(job.folder).free) < needed:
        raise OSError(f"only {free / 1e9:.2f} GB are free")


def _with_pictures(parts: Sequence[Part], manifest: Manifest) -> Iterator[Part]:
    """Yield the parts, each after its pictures were written to a file if the data set has them inside others."""
    if manifest.embedded is None or not parts:
        yield from parts
        return
    paths = read_table(parts[0].job.rows_file(parts[0].split))["path"]
    pictures = manifest.embedded([path for part in parts for path in part.of(paths).to_pylist()])
    for part in parts:
        put_pictures(part.pictures_file, islice(pictures, part.rows))
        yield part


def _meta(manifest: Manifest, recipe: Recipe, keep_leaks: bool, reports: Reports, test: StoreSplit) -> StoreMeta:
    """Return the content of store.json."""
    classes = manifest.classes
    twins = [twin for report in reports["train"] for twin in report.twins]
    by_class = Counter(label for label, _ in twins)
    leaked = {name: by_class[name] for name in classes}
    counts = {
        split: {name: sum(report.counts[name] for report in reports[split]) for name in classes}
        for split in SPLITS
    }
    faults = [*manifest.faults, *(fault for report in chain(*reports.values()) for fault in report.faults)]
    require_every_class(counts, manifest.name, faults)
    has_twin = pc.is_in(test.pixels, pa.array({pixels for _, pixels in twins}, pa.string())).to_numpy()
    test_leaks = np.bincount(test.labels[has_twin], minlength=len(classes)).tolist()
    shards = {split: tuple(report.shard for report in reports[split]) for split in SPLITS}
    return StoreMeta(
        schema_version=SCHEMA_VERSION,
        name=manifest.name,
        classes=classes,
        size=recipe.size,
        margin=recipe.margin,
        codec=recipe.codec,
        resize=RESIZE,
        leaks="keep" if keep_leaks else "drop",
        manifest_hash=manifest.hash(),
        counts=counts,
        skipped=manifest.skipped,
        dropped_leaks=dict.fromkeys(classes, 0) if keep_leaks else leaked,
        test_leaks=dict(zip(classes, test_leaks, strict=True)),
        faults=tuple(faults),
        shards=shards,
        hash=content_hash({split: [shard.sha256 for shard in shards[split]] for split in SPLITS}),
        tested_on=manifest.tested_on,
        redistributable=manifest.redistributable,
        unread=in_words(unread(manifest)),
    )

"""From manifest to store: decode, crop and resize every face once, in parallel; resumable shard by shard."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import atomic_folder, atomic_path, content_hash, locked, write_atomic
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.store import groups, key
from fer_lightning.data.store.crop import RESIZE, Codec, Recipe
from fer_lightning.data.store.key import Leaks, log_changed_files, require_unchanged, store_folder
from fer_lightning.data.store.meta import META, SCHEMA_VERSION, SPLITS, StoreMeta
from fer_lightning.data.store.shard import (
    WORK,
    Job,
    Part,
    Report,
    earlier_report,
    put_pictures,
    write,
)
from fer_lightning.data.store.store import GROUPS, Store, StoreSplit, read_table
from fer_lightning.data.store.workers import processes_for, workers
from fer_lightning.data.unread import in_words, unread

Reports = dict[str, list[Report]]

log = logging.getLogger(__name__)

TOLD_ROWS = 50_000  # among so many faces, near copies are looked for long enough to say so
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
    shared: Path | None = None,
) -> Store:
    """Make the store of a manifest, or open it if it exists.

    It lies in ``base/<name>-<8 hex digits>``, named after everything that decides its content; for the pictures
    themselves their folder and the size and time of each file stand in, so that pictures that were replaced are
    prepared anew. It is written to ``base/<that name>.partial``, where the next process continues the work of a
    killed one. If two processes ask for it at once, one of them makes it. The data set's root is only read.

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
        shared: another folder of stores, such as one on a disk that all machines see; if it holds this store, it
            is copied from there.

    Raises:
        ValueError: a number out of range, an unknown codec or value of ``leaks``, or a manifest with a label
            that is none of its classes.
        UserError: a class without an image, leaks where they are an error, pictures that change meanwhile, or
            ``base`` cannot be written to.
    """
    recipe = Recipe(size=size, margin=margin, codec=codec)
    if leaks not in ("drop", "keep", "error"):
        raise ValueError(f"leaks must be drop, keep or error, not {leaks!r}")
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    folder = store_folder(manifest, base, recipe, leaks)
    if not (folder / META).is_file():
        manifest.check()
        try:
            if not (shared and copy_store(shared, folder)):
                with locked(folder):
                    if not folder.exists():  # another process may have made it during the wait for the lock
                        log_changed_files(manifest, base, recipe)
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
    return (store_folder(manifest, base, Recipe(size=size, margin=margin, codec=codec), leaks) / META).is_file()


def copy_store(shared: Path, folder: Path) -> bool:
    """Copy the store of this name from another folder of stores; return whether that has it."""
    store = shared / folder.name
    if not (store / META).is_file():
        return False
    with locked(folder):
        if not folder.exists():  # another process may have copied it during the wait for the lock
            log.info("copying the prepared faces of %s", store)
            with atomic_folder(folder) as partial:
                shutil.copytree(store, partial, dirs_exist_ok=True)
    return True


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
        has_attributes = manifest.rows["attributes"].null_count < len(manifest.rows)
        within = manifest.links_within
        job = Job(partial, manifest.root, manifest.classes, recipe, not keep_leaks, has_attributes, within)
        reports = _fill(job, manifest, processes, progress)
        try:
            require_unchanged(manifest)
            meta = _meta(job, manifest, recipe, keep_leaks, reports)
        except UserError:
            shutil.rmtree(partial)  # so that the next run reads repaired or changed pictures again
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
                write_atomic(job.test_pixels_file, "\n".join(_split(job, "test", len(shards)).pixels.to_pylist()))
    return {split: [reports[part] for part in shards] for split, shards in parts.items()}


def _split(job: Job, split: str, shards: int) -> StoreSplit:
    return StoreSplit(job.folder, split, shards, job.recipe.size, job.recipe.codec)


def _remove_leftovers(partial: Path) -> None:
    """Create the partial store, or delete everything in it but whole shards and their reports."""
    (partial / WORK).mkdir(parents=True, exist_ok=True)
    whole = [*partial.glob("*.arrow"), *(partial / WORK).glob("*.json"), *(partial / WORK).glob("*.npz")]
    for file in {file for file in partial.rglob("*") if file.is_file()}.difference(whole):
        file.unlink(missing_ok=True)  # a worker of the killed process may still be ending


def _parts(job: Job, split: str, rows: pa.Table) -> list[Part]:
    """Write a split's rows to a file; return its shards, about equal in size, whatever the number of processes."""
    rows = rows.filter(pc.equal(rows["split"], split))
    with job.rows_file(split).open("wb") as stream, pa.ipc.new_file(stream, rows.schema) as writer:
        writer.write_table(rows)
    shards = min(key.MOST_SHARDS, max(1, math.ceil(len(rows) / key.SHARD_ROWS)))  # an empty split has one
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


def _group(job: Job, reports: Sequence[Report]) -> int:
    """Write the groups of the training faces; return the number of faces that look like an earlier one."""
    split = _split(job, "train", len(reports))
    looks = [job.folder / WORK / f"{report.shard.name}.npz" for report in reports]
    same, person = groups.numbers(split.pixels), groups.numbers(split.identity)
    if len(split) > TOLD_ROWS:
        log.info("%s: looking for near copies among %d faces", job.folder.stem, len(split))
    alike = groups.near_copies(looks, split.identity.is_valid().to_numpy())
    with atomic_path(job.folder / GROUPS) as partial, partial.open("wb") as stream:
        np.save(stream, groups.joined(same, person, alike))
    return len(split) - len(np.unique(alike))


def _meta(
    job: Job,
    manifest: Manifest,
    recipe: Recipe,
    keep_leaks: bool,
    reports: Reports,
) -> StoreMeta:
    """Return the content of store.json, once the groups are written."""
    classes, test = manifest.classes, _split(job, "test", len(reports["test"]))
    twins = [twin for report in reports["train"] for twin in report.twins]
    by_class = Counter(label for label, _ in twins)
    leaked = {name: by_class[name] for name in classes}
    counts = {
        split: {name: sum(report.counts[name] for report in reports[split]) for name in classes}
        for split in SPLITS
    }
    faults = [*manifest.faults, *(fault for report in chain(*reports.values()) for fault in report.faults)]
    manifest.require_images(counts, faults)
    has_twin = pc.is_in(test.pixels, pa.array({pixels for _, pixels in twins}, pa.string())).to_numpy()
    test_leaks = np.bincount(test.labels[has_twin], minlength=len(classes)).tolist()
    shards = {split: tuple(report.shard for report in reports[split]) for split in SPLITS}
    digest = content_hash({split: [shard.sha256 for shard in shards[split]] for split in SPLITS})
    return StoreMeta(
        schema_version=SCHEMA_VERSION,
        name=manifest.name,
        root=os.path.realpath(manifest.root),
        classes=classes,
        size=recipe.size,
        margin=recipe.margin,
        codec=recipe.codec,
        resize=RESIZE,
        leaks="keep" if keep_leaks else "drop",
        manifest_hash=manifest.hash(),
        files_hash=manifest.files_hash,
        counts=counts,
        skipped=manifest.skipped,
        dropped_leaks=dict.fromkeys(classes, 0) if keep_leaks else leaked,
        test_leaks=dict(zip(classes, test_leaks, strict=True)),
        faults=tuple(faults),
        shards=shards,
        content_hash=digest,
        hash=digest,
        tested_on=manifest.tested_on,
        near_copies=_group(job, reports["train"]),
        redistributable=manifest.redistributable,
        unread=in_words(unread(manifest)),
        boxed=manifest.rows.num_rows - manifest.rows["x"].null_count,
    )

"""A shard of a store: the faces of some rows in one Arrow file, written by any process; whole or absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fer_lightning.core.files import atomic_path, file_hash, write_atomic
from fer_lightning.data.manifest import Fault
from fer_lightning.data.near_copies import THUMB
from fer_lightning.data.store.crop import Crop, Recipe, UnusableError, crop
from fer_lightning.data.store.meta import Shard
from fer_lightning.data.store.store import read_table, schema, shard_name

T = TypeVar("T")

BATCH_BYTES = 8 * 2**20
"""Bytes of pictures that are held in memory before they are written."""

WORK = "work"
"""Folder in an unfinished store for files that are not part of it."""


@dataclass(frozen=True)
class Job:
    """Settings that all shards of a store share.

    Attributes:
        folder: folder that they are written to.
        root: root of the data set.
        classes: class names in the classifier's order.
        recipe: how a face is cut out and encoded.
        drop: whether to leave out training faces that are pixel-identical to a test face.
        attributes: whether the rows have attributes that recall is told by.
        links_within: root that links may not lead out of; None: links are followed.
    """

    folder: Path
    root: Path
    classes: tuple[str, ...]
    recipe: Recipe
    drop: bool
    attributes: bool
    links_within: Path | None

    @property
    def schema(self) -> pa.Schema:
        """Return the columns of a shard."""
        return schema(self.classes, attributes=self.attributes)

    def rows_file(self, split: str) -> Path:
        """Return the file with a split's rows of the manifest."""
        return self.folder / WORK / f"{split}-rows.arrow"

    @property
    def test_pixels_file(self) -> Path:
        """Return the file with one test face's digest per line; written before any training face is cropped."""
        return self.folder / WORK / "test-pixels.txt"


@dataclass(frozen=True)
class Part:
    """The rows ``start`` to ``stop`` of a split, which become its shard ``number``."""

    job: Job
    split: str
    number: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.stop - self.start

    def of(self, table: pa.ChunkedArray | pa.Table) -> pa.ChunkedArray | pa.Table:
        """Return this part of its split's table, or of a column of it."""
        return table.slice(self.start, self.rows)

    @property
    def file(self) -> Path:
        """Return the shard's file."""
        return self.job.folder / shard_name(self.split, self.number)

    @property
    def report_file(self) -> Path:
        """Return the file with the shard's report; if it exists, the shard is whole."""
        return self.job.folder / WORK / f"{self.file.name}.json"

    @property
    def looks_file(self) -> Path:
        """Return the file with what the shard's faces look like, to find near copies."""
        return self.job.folder / WORK / f"{self.file.name}.npz"

    @property
    def pictures_file(self) -> Path:
        """Return the file with the pictures' bytes, for data sets without a file per picture."""
        return self.job.folder / WORK / f"{self.file.name}.pictures"


@dataclass
class Tally:
    """The outcome of the rows of a part.

    Attributes:
        counts: faces by class.
        faults: rows that could not be used.
        twins: label and digest of training faces that are pixel-identical to a test face, dropped or kept.
    """

    counts: dict[str, int]
    faults: list[Fault]
    twins: list[tuple[str, str]]


@dataclass
class Report(Tally):
    """A tally with the shard that was written.

    Attributes:
        shard: the shard's file.
    """

    shard: Shard

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read a report that ``to_json`` returned."""
        return TypeAdapter(cls).validate_json(text)


def write(part: Part) -> Report:
    """Write a shard, its looks and its report; all are on disk when this returns, and none is ever incomplete.

    Raises:
        OSError: the disk is full, ...
    """
    tally = Tally(dict.fromkeys(part.job.classes, 0), [], [])
    looks: list[tuple[int, bytes]] = []
    with atomic_path(part.file) as partial:
        with partial.open("wb") as stream, pa.ipc.new_file(stream, part.job.schema) as writer:
            for batch in _batches(part, tally, looks):
                writer.write_batch(batch)
        rows = sum(tally.counts.values())
        shard = Shard(part.file.name, rows, partial.stat().st_size, file_hash(partial))
    with atomic_path(part.looks_file) as partial, partial.open("wb") as stream:
        hashes, thumbs = _looks(looks)
        np.savez(stream, hashes=hashes, thumbs=thumbs)
    report = Report(**vars(tally), shard=shard)
    write_atomic(part.report_file, report.to_json())
    return report


def _looks(looks: Sequence[tuple[int, bytes]]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return look hashes (N,) and thumbnails (N, THUMB, THUMB): zeros where there is nothing to compare."""
    thumbs = np.zeros((len(looks), THUMB, THUMB), np.uint8)
    for row, (_, thumb) in enumerate(looks):
        if thumb:
            thumbs[row] = np.frombuffer(thumb, np.uint8).reshape(THUMB, THUMB)
    return np.array([look for look, _ in looks], np.uint64), thumbs


def earlier_report(part: Part) -> Report | None:
    """Return the report of a shard that was written before; None if it has to be written."""
    if not part.report_file.is_file():
        return None
    report = Report.from_json(part.report_file.read_text(encoding="utf-8"))
    whole = part.file.is_file() and part.file.stat().st_size == report.shard.bytes and part.looks_file.is_file()
    return report if whole else None


def put_pictures(file: Path, pictures: Iterable[bytes]) -> None:
    """Write pictures to a file for ``write`` in another process, with a few MB of them in memory at a time."""
    columns = pa.schema([("picture", pa.binary())])
    with file.open("wb") as stream, pa.ipc.new_file(stream, columns) as writer:
        for batch in _batched(pictures, len):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=columns))


def _batched(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the items in lists of a few MB."""
    batch: list[T] = []
    held = 0
    for item in items:
        batch.append(item)
        held += size(item)
        if held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _batches(part: Part, tally: Tally, looks: list[tuple[int, bytes]]) -> Iterator[pa.RecordBatch]:
    """Yield the faces of a part's rows, a few MB at a time; count the outcome of each row, and keep its looks."""
    rows = part.of(read_table(part.job.rows_file(part.split)))
    for faces in _batched(_faces(part, rows, tally), lambda numbered: len(numbered[1].image)):
        numbers, crops = zip(*faces, strict=True)
        looks += [(face.looks, face.thumb) for face in crops]
        yield _batch(rows.take(list(numbers)).combine_chunks(), crops, part.job)


def _faces(part: Part, rows: pa.Table, tally: Tally) -> Iterator[tuple[int, Crop]]:
    """Yield the faces to keep, each with the number of its row."""
    job = part.job
    tested = (
        frozenset(job.test_pixels_file.read_text(encoding="utf-8").split())
        if part.split == "train"
        else frozenset()
    )
    pictures = _pictures(part, rows["path"].to_pylist())
    for number, (row, picture) in enumerate(zip(rows.to_pylist(), pictures, strict=True)):
        box = row["x"], row["y"], row["width"], row["height"]
        try:
            face = crop(picture, job.links_within, None if None in box else box, job.recipe)
        except UnusableError as error:
            tally.faults.append(Fault(error.kind, row["id"], error.detail))
            continue
        if face.pixels in tested:
            tally.twins.append((row["label"], face.pixels))
            if job.drop:
                continue
        tally.counts[row["label"]] += 1
        yield number, face


def _pictures(part: Part, paths: Iterable[str]) -> Iterator[Path | bytes]:
    if not part.pictures_file.exists():
        yield from (part.job.root / path for path in paths)
        return
    for chunk in read_table(part.pictures_file)["picture"].chunks:
        yield from (picture.as_py() for picture in chunk)


def _batch(rows: pa.Table, faces: Sequence[Crop], job: Job) -> pa.RecordBatch:
    names = pa.array(job.classes, pa.string())
    index = pc.index_in(rows["label"], names).combine_chunks().cast(pa.int16())
    columns = {
        "id": rows["id"],
        "label": pa.DictionaryArray.from_arrays(index, names),
        "image": pa.array([face.image for face in faces], pa.binary()),
        "pixels": pa.array([face.pixels for face in faces], pa.string()),
        **{name: rows[name] for name in ("identity", "valence", "arousal", "votes", "attributes")},
    }
    return (
        pa.table({name: columns[name] for name in job.schema.names}, schema=job.schema)
        .combine_chunks()
        .to_batches()[0]
    )

"""A store's shard: some rows' faces in one Arrow file, made by whichever process; whole or absent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.files import atomic_path, file_hash, write_atomic
from fer_lightning.data.manifest import Fault
from fer_lightning.data.store.crop import Crop, Recipe, UnusableError, crop
from fer_lightning.data.store.store import Shard, schema, shard_name

T = TypeVar("T")

BATCH_BYTES = 8 * 2**20
"""Pictures that are held in memory before they are written."""

WORK = "work"
"""The folder in a store that is being made for what is not part of it."""


@dataclass(frozen=True)
class Job:
    """What the shards of a store have in common.

    Attributes:
        folder: where they are written to.
        root: of the data set.
        classes: class names in the classifier's order.
        recipe: how a face is cut out and kept.
        drop: whether to leave out training faces that are pixel-identical to a test face.
    """

    folder: Path
    root: Path
    classes: tuple[str, ...]
    recipe: Recipe
    drop: bool

    def rows_file(self, split: str) -> Path:
        """A split's rows of the manifest."""
        return self.folder / WORK / f"{split}-rows.arrow"

    @property
    def test_pixels_file(self) -> Path:
        """The digests of all test faces, one a line; there before any training face is cropped."""
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
        """How many."""
        return self.stop - self.start

    def of(self, column: pa.ChunkedArray | pa.Table) -> pa.ChunkedArray | pa.Table:
        """This part of a column, or of the columns, of its split."""
        return column.slice(self.start, self.rows)

    @property
    def file(self) -> Path:
        """The shard's."""
        return self.job.folder / shard_name(self.split, self.number)

    @property
    def report_file(self) -> Path:
        """What is in the shard; where this file is, the shard is whole."""
        return self.job.folder / WORK / f"{self.file.name}.json"

    @property
    def pictures_file(self) -> Path:
        """The pictures' bytes, where they are no files of their own."""
        return self.job.folder / WORK / f"{self.file.name}.pictures"


@dataclass(frozen=True)
class Report:
    """What a shard holds, and what became of the rows that it does not hold.

    Attributes:
        shard: its file.
        counts: faces by class.
        faults: rows that could not be used.
        twins: label and digest of training faces that are pixel-identical to a test face, dropped or kept.
    """

    shard: Shard
    counts: dict[str, int]
    faults: list[Fault]
    twins: list[tuple[str, str]]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What ``to_json`` wrote."""
        values = json.loads(text)
        return cls(
            Shard(**values["shard"]),
            values["counts"],
            [Fault(**fault) for fault in values["faults"]],
            [(label, pixels) for label, pixels in values["twins"]],
        )


@dataclass
class _Told:
    """What happens to the rows of a shard while it is written."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    twins: list[tuple[str, str]] = field(default_factory=list)


def write(part: Part) -> Report:
    """Make a shard and its report; both are on the disk when this returns, and neither is ever half there.

    Raises:
        OSError: the disk is full, ...
    """
    classes, told = part.job.classes, _Told()
    with atomic_path(part.file) as partial:
        with partial.open("wb") as stream, pa.ipc.new_file(stream, schema(classes)) as writer:
            for batch in _batches(part, told):
                writer.write_batch(batch)
        rows = sum(told.counts.values())
        shard = Shard(part.file.name, rows, partial.stat().st_size, file_hash(partial))
    report = Report(shard, {name: told.counts[name] for name in classes}, told.faults, told.twins)
    write_atomic(part.report_file, report.to_json())
    return report


def found(part: Part) -> Report | None:
    """The report of a shard that was made before; None: it has to be made."""
    if not part.report_file.is_file():
        return None
    report = Report.from_json(part.report_file.read_text(encoding="utf-8"))
    return report if part.file.is_file() and part.file.stat().st_size == report.shard.bytes else None


def read_table(file: Path) -> pa.Table:
    """An Arrow file's columns, read where they lie."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def put_pictures(file: Path, pictures: Iterable[bytes]) -> None:
    """Write pictures to a file for ``write`` in another process; a few MB of them are in memory at a time."""
    columns = pa.schema([("picture", pa.binary())])
    with file.open("wb") as stream, pa.ipc.new_file(stream, columns) as writer:
        for batch in _together(pictures, len):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=columns))


def _together(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in lists of a few MB."""
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


def _batches(part: Part, told: _Told) -> Iterator[pa.RecordBatch]:
    """The faces of a part's rows, a few MB at a time; what becomes of the rows is told."""
    rows = part.of(read_table(part.job.rows_file(part.split)))
    for faces in _together(_faces(part, rows, told), lambda numbered: len(numbered[1].image)):
        numbers, crops = zip(*faces, strict=True)
        yield _batch(rows.take(list(numbers)).combine_chunks(), crops, part.job.classes)


def _faces(part: Part, rows: pa.Table, told: _Told) -> Iterator[tuple[int, Crop]]:
    """The faces to be kept, each with the number of its row."""
    job = part.job
    tested = frozenset(job.test_pixels_file.read_text().split()) if part.split == "train" else frozenset()
    pictures = _pictures(part, rows["path"].to_pylist())
    for number, (row, picture) in enumerate(zip(rows.to_pylist(), pictures, strict=True)):
        box = row["x"], row["y"], row["width"], row["height"]
        try:
            face = crop(picture, job.root, None if None in box else box, job.recipe)
        except UnusableError as error:
            told.faults.append(Fault(error.kind, row["id"], error.detail))
            continue
        if face.pixels in tested:
            told.twins.append((row["label"], face.pixels))
            if job.drop:
                continue
        told.counts[row["label"]] += 1
        yield number, face


def _pictures(part: Part, paths: Iterable[str]) -> Iterator[Path | bytes]:
    if not part.pictures_file.exists():
        yield from (part.job.root / path for path in paths)
        return
    for chunk in read_table(part.pictures_file)["picture"].chunks:
        yield from (picture.as_py() for picture in chunk)


def _batch(rows: pa.Table, faces: Sequence[Crop], classes: tuple[str, ...]) -> pa.RecordBatch:
    names = pa.array(classes, pa.string())
    index = pc.index_in(rows["label"], names).combine_chunks().cast(pa.int16())
    columns = {
        "id": rows["id"],
        "label": pa.DictionaryArray.from_arrays(index, names),
        "image": pa.array([face.image for face in faces], pa.binary()),
        "pixels": pa.array([face.pixels for face in faces], pa.string()),
        **{name: rows[name] for name in ("identity", "valence", "arousal", "votes")},
    }
    arrays = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns.values()]
    return pa.RecordBatch.from_arrays(arrays, schema=schema(classes))

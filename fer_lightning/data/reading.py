"""What readers share: names of labels and splits, CSV files, pictures inside files, rows into a manifest."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from fer_lightning.data.counting import occurrences
from fer_lightning.data.manifest import Fault, Manifest, make_rows
from fer_lightning.data.places import Layout
from fer_lightning.errors import UserError
from fer_lightning.labels import EMOTIONS, known_name

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None]

OUTSIDE = r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:"
"""Matches a path that may leave the folder it is relative to."""

SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Our names of splits, and what data sets call them."""

THREADS = 16  # small files are waited for, not worked on
TOGETHER = 512


class Row(NamedTuple):
    """A face that a reader found, with its label as a class's name."""

    path: str
    label: str
    split: str  # train or test
    box: tuple[int, int, int, int] | None = None
    valence: float | None = None
    arousal: float | None = None


def split_of(name: str) -> str | None:
    """train, valid or test, by a word in a file's or folder's name; None: it has no such word."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, known in SPLITS.items() if any(word in known for word in words)), None)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Which of some folders is which split's, by its whole name."""
    lower = {name.lower(): name for name in names}
    return {split: lower[word] for split, words in SPLITS.items() for word in reversed(words) if word in lower}


def test_part(title: str, test_split: str, there: Collection[str]) -> str | float:
    """What to test on: "test" or "valid", or the share to hold out where there are training pictures only.

    Raises:
        UserError: ``test_split`` names neither what is there nor, where nothing is, a share such as 20%.
    """
    parts = [split for split in ("test", "valid") if split in there]
    if split_of(test_split) in parts:
        return str(split_of(test_split))
    if parts:
        known = " or ".join(f"data.test_split={split}" for split in parts)
        raise UserError(f"{title} has no split {test_split!r} to test on; what works here: {known}")
    if share := re.fullmatch(r"([1-9]\d?)%", test_split):
        return int(share[1]) / 100
    raise UserError(
        f"{title}: there is no test part to test on; name one `test` or `val`, or say data.test_split=20% to hold "
        "out a fifth of each class by a hash of the names (the same person may then be on both sides)"
    )


def hold_out(rows: Sequence[Row], part: str | float) -> list[Row]:
    """The rows, with a share of each class in the test split where ``part`` is a share."""
    if isinstance(part, str):
        return list(rows)
    by_label = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row)
    held: set[str] = set()
    for same in by_label.values():
        same.sort(key=lambda row: hashlib.sha256(row.path.encode()).digest())
        held |= {row.path for row in same[: round(part * len(same))]}
    return [row._replace(split="test") if row.path in held else row for row in rows]


def our_names(title: str, names: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """Our name for each label that a data set has.

    Raises:
        UserError: one is unknown, or the data set has no label for one of the classes.
    """
    found = {name: known_name(name, classes) for name in names}
    told = ", ".join(sorted(found)) or "none"
    if unknown := sorted(name for name, ours in found.items() if ours is None):
        raise UserError(
            f"{title}: unknown label {unknown[0]!r} among: {told}; known are {', '.join(EMOTIONS)}, their "
            "usual synonyms, and what data.classes names"
        )
    require_classes(title, classes, [ours for ours in found.values() if ours])
    return {name: ours for name, ours in found.items() if ours}


def require_classes(title: str, classes: Sequence[str], known: Collection[str]) -> None:
    """Raises UserError where a class is none of those that a data set has."""
    if lacking := [name for name in classes if name not in known]:
        raise UserError(
            f"{title} has no class {lacking[0]!r}; it has: {', '.join(known)}; say data.classes=[...] without it"
        )


def manifest(
    layout: Layout,
    root: Path,
    rows: Sequence[Row],
    classes: Sequence[str],
    faults: Sequence[Fault],
    embedded: Callable[[Sequence[str]], Iterator[bytes]] | None = None,
) -> Manifest:
    """The rows whose label is among the classes; the others are counted.

    Raises:
        UserError: no row is left.
    """
    kept = [row for row in rows if row.label in classes]
    if not kept:
        wrong = f"; {len(faults)} were set aside, the first: {faults[0]}" if faults else ""
        raise UserError(f"{layout.title}: no picture of {', '.join(classes)} in {root}{wrong}")
    boxes = zip(*(row.box or (None,) * 4 for row in kept), strict=True)
    paths = pa.chunked_array([pa.array([row.path for row in kept], pa.string())])
    columns = {
        "id": unique_ids(paths),
        "path": paths,
        **{name: pa.array([getattr(row, name) for row in kept], pa.string()) for name in ("label", "split")},
        **{k: pa.array(v, pa.int32()) for k, v in zip(("x", "y", "width", "height"), boxes, strict=True)},
        **{name: pa.array([getattr(row, name) for row in kept], pa.float32()) for name in ("valence", "arousal")},
    }
    return Manifest(
        name=layout.option,
        root=root,
        rows=make_rows(columns),
        classes=tuple(classes),
        skipped=dict(Counter(row.label for row in rows if row.label not in classes)),
        faults=tuple(faults),
        embedded=embedded,
    )


def unique_ids(paths: pa.ChunkedArray) -> pa.Array:
    """The paths, with #2, #3, ... where one occurs again (a picture with several faces, or a row twice)."""
    occurrence = occurrences(paths.combine_chunks().dictionary_encode().indices.to_numpy())
    again = pc.binary_join_element_wise(paths, pa.array(occurrence + 1).cast(pa.string()), "#")
    return pc.if_else(pa.array(occurrence > 0), again, paths)


def pooled(function: Callable[[T], R], items: Sequence[T], progress: Progress | None) -> Iterator[R]:
    """The function's results in order; many small files are read at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), TOGETHER):
            yield from pool.map(function, items[start : start + TOGETHER])
            if progress:
                progress(min(start + TOGETHER, len(items)), len(items))


def numbered(paths: Sequence[str], chunks: Callable[[str], Iterable[pa.Array]]) -> Iterator[Any]:
    """The values of rows named FILE#NUMBER, ascending in each file, out of the chunks of the file's column."""
    for file, same in groupby(paths, lambda path: path.rpartition("#")[0]):
        numbers = np.array([int(path.rpartition("#")[2]) for path in same])
        start = 0
        for chunk in chunks(file):
            here = numbers[(numbers >= start) & (numbers < start + len(chunk))] - start
            yield from chunk.take(pa.array(here)).to_pylist()
            start += len(chunk)


def header(file: Path) -> list[str]:
    """The cells of a CSV file's first line.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            return [cell.strip().strip('"') for cell in stream.readline().rstrip("\r\n").split(",")]
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def require_columns(file: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    """Raises UserError where a file's header line lacks a needed name."""
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"{file} has no column {missing[0]!r}; it has: {', '.join(names)[:300] or 'nothing'}")


def read_csv(
    file: Path, names: Sequence[str], wanted: Sequence[str], faults: list[Fault], *, skip: int = 1
) -> pa.Table:
    """Columns of a CSV file as text: ``stream_csv`` at once."""
    parts = stream_csv(file, names, wanted, faults, skip=skip)
    return pa.Table.from_batches(parts, pa.schema([(name, pa.string()) for name in wanted]))


def stream_csv(
    file: Path, names: Sequence[str], wanted: Sequence[str], faults: list[Fault], *, skip: int = 1
) -> Iterator[pa.RecordBatch]:
    """Columns of a CSV file as text, part by part; lines with too few or too many cells become faults.

    Args:
        file: its name goes into messages.
        names: of all its columns.
        wanted: columns to read.
        faults: is added to.
        skip: lines to leave out at the beginning: the header line.

    Raises:
        UserError: it is no CSV file.
    """

    def broken(row: Any) -> str:
        cells = f"{row.actual_columns} cells in place of {row.expected_columns}"
        faults.append(Fault("broken_line", row.text.split(",")[0][:200], f"{file.name}: {cells}"))
        return "skip"

    try:
        yield from csv.open_csv(
            file,
            csv.ReadOptions(column_names=names, skip_rows=skip),
            csv.ParseOptions(invalid_row_handler=broken),
            csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())),
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}") from error

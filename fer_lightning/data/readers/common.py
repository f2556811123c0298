"""What readers share: names of labels and splits, CSV files, pictures inside files, rows into a manifest."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from fer_lightning.core.emotions import EMOTIONS, known_name
from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import occurrences
from fer_lightning.data.manifest import Fault, LeftOut, Manifest, make_rows
from fer_lightning.data.readers.layouts import Layout

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None]

OUTSIDE = r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:"
"""Matches a path that may leave the folder it is relative to."""

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Our names of splits, and what data sets call them."""

THREADS = 16  # small files are waited for, not worked on
TOGETHER = 512


class Row(NamedTuple):
    """A face that a reader found, with its label as a class's name."""

    path: str
    label: str
    split: str  # train, val or test
    box: tuple[int, int, int, int] | None = None
    valence: float | None = None
    arousal: float | None = None


def split_of(name: str) -> str | None:
    """train, val or test, by a word in a file's or folder's name; None: it has no such word."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, known in SPLITS.items() if any(word in known for word in words)), None)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Which of some folders is which split's, by its whole name."""
    lower = {name.lower(): name for name in names}
    return {split: lower[word] for split, words in SPLITS.items() for word in reversed(words) if word in lower}


def our_names(title: str, names: Iterable[str], classes: Sequence[str] | None) -> dict[str, str]:
    """Our name for each label that a data set has.

    Raises:
        UserError: one is unknown.
    """
    found = {name: known_name(name, classes or ()) for name in names}
    told = ", ".join(sorted(found)) or "none"
    if unknown := sorted(name for name, ours in found.items() if ours is None):
        raise UserError(
            f"{title}: unknown label {unknown[0]!r} among: {told}; known are {', '.join(EMOTIONS)}, their "
            "usual synonyms, and what data.classes names"
        )
    return {name: ours for name, ours in found.items() if ours}


def chosen_classes(title: str, classes: Sequence[str] | None, known: Collection[str]) -> tuple[str, ...]:
    """The classes; where none are named, all emotions among the labels that a data set knows.

    Raises:
        UserError: one of them is none of those labels.
    """
    if classes is None:
        return tuple(name for name in EMOTIONS if name in known)
    if lacking := [name for name in classes if name not in known]:
        there = ", ".join(dict.fromkeys(known))
        raise UserError(f"{title} has no class {lacking[0]!r}; it has: {there}; say data.classes=[...] without it")
    return tuple(classes)


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
        skipped=_nested(Counter((row.split, row.label) for row in rows if row.label not in classes)),
        faults=tuple(faults),
        embedded=embedded,
    )


def count_by_split(rows: pa.Table) -> LeftOut:
    """Rows by split and label."""
    counted = rows.group_by(["split", "label"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return _nested({(row["split"], row["label"]): row["count_all"] for row in counted})


def _nested(counted: Mapping[tuple[str, str], int]) -> LeftOut:
    nested: LeftOut = {}
    for (split, label), rows in counted.items():
        nested.setdefault(split, {})[label] = rows
    return nested


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

    Bytes that are no text in UTF-8 are read as escapes, such as \\xff.

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
        with file.open("rb") as stream:
            yield from csv.open_csv(
                codecs.EncodedFile(stream, "utf-8", errors="backslashreplace"),  # bytes that are no text
                csv.ReadOptions(column_names=names, skip_rows=skip),
                csv.ParseOptions(invalid_row_handler=broken),
                csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())),
            )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}") from error

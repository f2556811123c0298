"""Common parts of readers: names of splits, and the way from rows to a manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, occurrences
from fer_lightning.data.manifest import SCHEMA, Fault, LeftOut, Manifest, make_rows
from fer_lightning.data.readers.labels import Names, hint_at_labels
from fer_lightning.data.readers.layouts import Folder, Layout

T = TypeVar("T")
R = TypeVar("R")

OUTSIDE = r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:"
"""Pattern of a path that may leave the folder it is relative to."""

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Names of the splits, and what data sets call them."""

WHOLE_NUMBER = r"^[+-]?\d{1,7}(\.\d*)?$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$"
"""Patterns of numbers in text."""

THREADS = 16  # reading small files is waiting, not computing
ITEMS_AT_ONCE = 512


class Row(NamedTuple):
    """A face from a data set's annotations; the fields are columns of ``manifest.SCHEMA``."""

    path: str
    label: str
    split: str
    x: int | None = None
    y: int | None = None
    width: int | None = None
    height: int | None = None
    valence: float | None = None
    arousal: float | None = None


def split_of(name: str) -> str | None:
    """Return "train", "val" or "test" by a word in the name of a file or folder, or None without such a word."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, known in SPLITS.items() if any(word in known for word in words)), None)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Return the folder of each split, matching whole names in any case of letters."""
    lower = {name.lower(): name for name in names}
    return {split: lower[word] for split, words in SPLITS.items() for word in reversed(words) if word in lower}


def named(
    rows: Iterable[Row | Fault], names: Names, classes: Sequence[str] | None = None
) -> Iterator[Row | Fault]:
    """Yield the rows with our names for their labels; a row whose label names no class becomes a fault."""
    for row in rows:
        if isinstance(row, Fault):
            yield row
        elif (name := names.get(row.label)) is None:
            yield Fault(
                "unknown_label", row.path, f"label {row.label[:40]}; {hint_at_labels(row.label[:40], classes)}"
            )
        else:
            yield row._replace(label=name)


def labels_of(rows: Iterable[Row | Fault]) -> list[str]:
    """Return the different labels of some rows, in order of occurrence."""
    return list(dict.fromkeys(row.label for row in rows if isinstance(row, Row)))


def build_manifest(
    layout: Layout,
    folder: Folder,
    items: Iterable[Row | Fault],
    classes: Sequence[str],
    faults: list[Fault],
    annotations: Sequence[str] = (),
    embedded: Callable[[Sequence[str]], Iterator[bytes]] | None = None,
) -> Manifest:
    """Build the manifest of the rows whose label is among the classes; count the other rows.

    Args:
        layout: the data set's layout, which gives the manifest its name.
        folder: folder that paths are relative to.
        items: rows, and faults in place of those that cannot be used.
        classes: class names in the classifier's order.
        faults: receives the faults among ``items``; may hold earlier ones.
        annotations: see ``Manifest``.
        embedded: see ``Manifest``.

    Raises:
        UserError: no row is left.
    """
    rows: list[Row] = []
    for item in items:
        if isinstance(item, Row):
            rows.append(item)
        else:
            faults.append(item)
    columns = {
        name: pa.array([getattr(row, name) for row in rows], SCHEMA.field(name).type) for name in Row._fields
    }
    table, skipped, left_out = keep_classes(pa.table(columns), classes)
    if not len(table):
        raise no_picture(layout.title, folder, classes, faults)
    table = make_rows({"id": unique_ids(table["path"]), **{name: table[name] for name in columns}})
    return Manifest(
        layout.option,
        folder.path,
        table,
        tuple(classes),
        skipped,
        tuple(faults),
        follow_links=folder.follow_links,
        annotations=tuple(annotations),
        left_out=left_out,
        embedded=embedded,
    )


def no_picture(title: str, folder: Folder, classes: Sequence[str], faults: Sequence[Fault]) -> UserError:
    """Return the error that a data set has no row of the classes."""
    reason = f"; {len(faults):,} were set aside, the first: {faults[0]}" if faults else ""
    wanted = ", ".join(classes) or "a known class"
    return UserError(f"{title}: no picture of {wanted} in {folder.path}{reason}{folder.hint_at_links()}")


def keep_classes(
    rows: pa.Table, classes: Sequence[str], path: str = "path"
) -> tuple[pa.Table, LeftOut, list[str]]:
    """Return the rows whose label is among the classes, the number of others by split and label, and their paths.

    Args:
        rows: rows with ``label`` and ``split``.
        classes: class names to keep.
        path: name of the column of paths.
    """
    wanted = pc.is_in(rows["label"], pa.array(classes, pa.string()))
    others = rows.filter(pc.invert(wanted))
    skipped: LeftOut = {}
    groups = others.group_by(["split", "label"], use_threads=False).aggregate([([], "count_all")])
    for group in groups.to_pylist():
        skipped.setdefault(group["split"], {})[group["label"]] = group["count_all"]
    return rows.filter(wanted), skipped, others[path].to_pylist()


def set_aside(
    table: pa.Table, wrong: pa.ChunkedArray, kind: str, shown: Sequence[str], faults: list[Fault]
) -> pa.Table:
    """Return the table without its ``wrong`` rows, each of which becomes a fault.

    Args:
        table: rows with an ``id``.
        wrong: whether each row (N,) is wrong; nothing is null.
        kind: kind of the faults.
        shown: columns whose cells a fault shows.
        faults: receives the faults.
    """
    if not pc.any(wrong).as_py():
        return table
    for row in table.filter(wrong).select(["id", *shown]).to_pylist():
        faults.append(Fault(kind, row["id"], ", ".join(f"{name} {row[name] or 'empty'}" for name in shown)))
    return table.filter(pc.invert(wrong))


def unique_ids(paths: pa.ChunkedArray) -> pa.Array:
    """Return the paths, with #2, #3, ... where one occurs again (several faces in a picture, or a row twice)."""
    occurrence = occurrences(paths.combine_chunks().dictionary_encode().indices.to_numpy())
    again = pc.binary_join_element_wise(paths, pa.array(occurrence + 1).cast(pa.string()), "#")
    return pc.if_else(pa.array(occurrence > 0), again, paths)


def pooled(function: Callable[[T], R], items: Sequence[T], progress: Progress | None) -> Iterator[R]:
    """Yield the function's results in order, with many calls at a time; for reading many small files."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), ITEMS_AT_ONCE):
            yield from pool.map(function, items[start : start + ITEMS_AT_ONCE])
            if progress:
                progress(min(start + ITEMS_AT_ONCE, len(items)), len(items))


def numbered(paths: Sequence[str], chunks: Callable[[str], Iterable[pa.Array]]) -> Iterator[Any]:
    """Yield the values of rows that are named FILE#NUMBER.

    Args:
        paths: names of the rows, file by file and with ascending numbers in each.
        chunks: returns a file's column, chunk by chunk.
    """
    for file, same_file in groupby(paths, lambda path: path.rpartition("#")[0]):
        numbers = np.array([int(path.rpartition("#")[2]) for path in same_file])
        start = 0
        for chunk in chunks(file):
            in_chunk = numbers[(numbers >= start) & (numbers < start + len(chunk))] - start
            yield from chunk.take(pa.array(in_chunk)).to_pylist()
            start += len(chunk)


def numbers_of(texts: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Return texts as float64; null where one does not match the pattern ("NULL", "", ...)."""
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.match_substring_regex(trimmed, pattern), trimmed, None).cast(pa.float64())

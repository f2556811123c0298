"""Common parts of readers: names of labels and splits, and the way from rows to a manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.emotions import EMOTIONS, known_name
from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, occurrences
from fer_lightning.data.manifest import SCHEMA, Fault, LeftOut, Manifest, make_rows
from fer_lightning.data.readers.layouts import Layout

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


def our_names(title: str, names: Iterable[str], classes: Sequence[str] | None) -> dict[str, str]:
    """Return the class name for each label of a data set.

    Args:
        title: name of the data set in messages.
        names: labels of the data set.
        classes: class names that the user added to the known ones.

    Raises:
        UserError: a label is unknown.
    """
    translations = {name: known_name(name, classes or ()) for name in sorted(names)}
    if unknown := [name for name, translation in translations.items() if translation is None]:
        raise UserError(
            f"{title}: unknown label {unknown[0]!r} among: {', '.join(translations)}; known are "
            f"{', '.join(EMOTIONS)}, their usual synonyms, and what data.classes names"
        )
    return {name: translation for name, translation in translations.items() if translation}


def chosen_classes(title: str, classes: Sequence[str] | None, known: Collection[str]) -> tuple[str, ...]:
    """Return the classes to read: those that the user names, else all emotions that the data set has.

    Args:
        title: name of the data set in messages.
        classes: class names that the user asks for.
        known: labels of the data set.

    Raises:
        UserError: the data set has no such label.
    """
    if classes is None:
        return tuple(name for name in EMOTIONS if name in known)
    if lacking := [name for name in classes if name not in known]:
        labels = ", ".join(dict.fromkeys(known))
        raise UserError(
            f"{title} has no class {lacking[0]!r}; it has: {labels}; set data.classes=[...] without it"
        )
    return tuple(classes)


def build_manifest(
    layout: Layout,
    root: Path,
    items: Iterable[Row | Fault],
    classes: Sequence[str],
    faults: list[Fault],
    embedded: Callable[[Sequence[str]], Iterator[bytes]] | None = None,
) -> Manifest:
    """Build the manifest of the rows whose label is among the classes; count the other rows.

    Args:
        layout: the data set's layout, which gives the manifest its name.
        root: folder that paths are relative to.
        items: rows, and faults in place of those that cannot be used.
        classes: class names in the classifier's order.
        faults: receives the faults among ``items``; may hold earlier ones.
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
    table, left_out = keep_classes(pa.table(columns), classes)
    if not len(table):
        reason = f"; {len(faults)} were set aside, the first: {faults[0]}" if faults else ""
        raise UserError(f"{layout.title}: no picture of {', '.join(classes)} in {root}{reason}")
    table = make_rows({"id": unique_ids(table["path"]), **{name: table[name] for name in columns}})
    return Manifest(layout.option, root, table, tuple(classes), left_out, tuple(faults), embedded=embedded)


def keep_classes(rows: pa.Table, classes: Sequence[str]) -> tuple[pa.Table, LeftOut]:
    """Return the rows whose label is among the classes, and the number of others by split and label."""
    wanted = pc.is_in(rows["label"], pa.array(classes, pa.string()))
    others = rows.filter(pc.invert(wanted)).group_by(["split", "label"], use_threads=False)
    left_out: LeftOut = {}
    for group in others.aggregate([([], "count_all")]).to_pylist():
        left_out.setdefault(group["split"], {})[group["label"]] = group["count_all"]
    return rows.filter(wanted), left_out


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

"""Parquet files as Hugging Face's data sets have them: a column of pictures' bytes and one of labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, Manifest, inside
from fer_lightning.data.readers.common import Row, chosen_classes, manifest, numbered, our_names, split_of
from fer_lightning.data.readers.layouts import Layout

LABELS = ("label", "labels", "emotion", "expression")
TOGETHER = 64  # pictures in memory at a time


def _files(folder: Path) -> list[str]:
    places = [path for pattern in ("*.parquet", "*/*.parquet") for path in folder.glob(pattern)]
    return sorted(path.relative_to(folder).as_posix() for path in places if inside(folder, path))


LAYOUT = Layout(
    "parquet",
    "parquet",
    "*.parquet or data/*.parquet (not as a link out of it)",
    lambda folder: bool(_files(folder)),
)


class _Columns(NamedTuple):
    picture: str  # with ".bytes" where it is a struct
    label: str
    names: list[str] | None  # of the labels, where those are numbers


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read parquet files of faces; the pictures stay in them until they are prepared.

    Args:
        root: the folder that holds them, or a folder with them. A file is of the split that its name or its
            folder's name says (data/train-00000-of-00002.parquet), else of the training split.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (files read, files).

    Raises:
        UserError: no root, a file cannot be read, has no pictures or label numbers without names, an unknown
            label or class.
    """
    folder = LAYOUT.find(root)
    splits = {file: split_of(file.removesuffix(".parquet")) or "train" for file in _files(folder)}
    names: dict[str, list[str | None]] = {}
    for done, file in enumerate(splits, start=1):
        names[file] = _labels(folder / file)
        if progress:
            progress(done, len(splits))
    ours = our_names(LAYOUT.title, {name for column in names.values() for name in column if name}, classes)
    classes = chosen_classes(LAYOUT.title, classes, ours.values())
    faults: list[Fault] = []
    rows = []
    for file, split in splits.items():
        for number, name in enumerate(names[file]):
            if name is None:
                faults.append(Fault("unknown_label", f"{file}#{number}", "it is empty or has no name"))
            else:
                rows.append(Row(f"{file}#{number}", ours[name], split))
    return manifest(LAYOUT, folder, rows, classes, faults, partial(_pictures, folder))


@contextmanager
def _opened(file: Path) -> Iterator[tuple[pq.ParquetFile, _Columns]]:
    try:
        with pq.ParquetFile(file) as opened:
            yield opened, _columns(file, opened.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as parquet: {error}") from error


def _columns(file: Path, schema: pa.Schema) -> _Columns:
    """Which columns hold pictures and labels, by the schema and what Hugging Face wrote beside it."""
    named = _names(schema)
    structs = [field.name for field in schema if pa.types.is_struct(field.type)]
    pictures = [f"{name}.bytes" for name in structs if schema.field(name).type.get_field_index("bytes") >= 0]
    pictures += [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    labels = [name for name in (*named, *LABELS) if name in schema.names]
    if not pictures or not labels:
        raise UserError(
            f"{file} has no column of pictures' bytes with a column {' or '.join(LABELS)}; it has: "
            f"{', '.join(schema.names)}"
        )
    label = labels[0]
    if pa.types.is_integer(schema.field(label).type) and label not in named:
        raise UserError(f"{file}: {label} holds numbers, and the file does not say what they stand for")
    return _Columns(pictures[0], label, named.get(label))


def _names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the labels that are numbers, by column."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: list(feature["names"]) for name, feature in features.items() if "names" in feature}
    except (TypeError, KeyError, ValueError, AttributeError):  # there is none, or it says something else
        return {}


def _labels(file: Path) -> list[str | None]:
    """The labels' names; None where a row has none."""
    with _opened(file) as (opened, columns):
        values = opened.read([columns.label])[columns.label].to_pylist()
    if (names := columns.names) is None:
        return [str(value) if value else None for value in values]
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]


def _pictures(folder: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """Some rows' pictures; one that is not there is an empty file."""
    return (picture or b"" for picture in numbered(paths, partial(_chunks, folder)))


def _chunks(folder: Path, file: str) -> Iterator[pa.Array]:
    with _opened(folder / file) as (opened, columns):
        for batch in opened.iter_batches(TOGETHER, columns=[columns.picture]):
            column = batch.column(0)
            yield column.field("bytes") if pa.types.is_struct(column.type) else column

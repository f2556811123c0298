"""Parquet files as Hugging Face's data sets have them: a column of pictures' bytes and a column of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, named, numbered, split_of
from fer_lightning.data.readers.labels import Labels, chosen_classes, label_names
from fer_lightning.data.readers.layouts import SYSTEM, Folder, Layout

LABELS = ("label", "labels", "emotion", "expression")
PICTURES_AT_ONCE = 64


def _files(folder: Folder) -> list[str]:
    paths = [path for pattern in ("*.parquet", "*/*.parquet") for path in folder.path.glob(pattern)]
    names = [path.relative_to(folder.path).as_posix() for path in paths]
    visible = (name for name in names if not any(map(SYSTEM.fullmatch, name.split("/"))))
    return sorted(filter(folder.is_file, visible))


SIGN = "*.parquet or data/*.parquet (not as a link out of it)"
LAYOUT = Layout("parquet", "parquet", SIGN, lambda folder: bool(_files(folder)))


class _Columns(NamedTuple):
    picture: str  # with ".bytes" where it is a struct
    label: str
    names: list[str] | None  # of the labels, where those are numbers


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read parquet files of faces; the pictures stay in them until they are prepared.

    Args:
        root: the folder that holds the files, or its parent. A file belongs to the split that its name or its
            folder's name contains (data/train-00000-of-00002.parquet), else to the training split.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Raises:
        UserError: no root, an unreadable file, a file without pictures or with label numbers that have no names,
            or an unknown label or class.
    """
    folder = LAYOUT.find(root, follow_links)
    found = {
        file: _labels(folder.path / file, numbers=bool(labels)) for file in with_progress(_files(folder), progress)
    }
    different = sorted({name for rows_of_file in found.values() for name in rows_of_file if name})
    names = label_names(LAYOUT.title, different, classes, labels)
    chosen = chosen_classes(LAYOUT.title, classes, names.classes, names.unknown, folder)

    def rows() -> Iterator[Row | Fault]:
        for file, rows_of_file in found.items():
            split = split_of(file.removesuffix(".parquet")) or "train"
            for number, name in enumerate(rows_of_file):
                if name is None:
                    yield Fault("unknown_label", f"{file}#{number}", "it is empty or has no name")
                else:
                    yield Row(f"{file}#{number}", name, split)

    pictures = partial(_pictures, folder.path)
    return build_manifest(LAYOUT, folder, named(rows(), names, classes), chosen, [], list(found), pictures)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[pq.ParquetFile, _Columns]]:
    try:
        with pq.ParquetFile(file) as opened:
            yield opened, _columns(file, opened.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as parquet: {error}") from error


def _columns(file: Path, schema: pa.Schema) -> _Columns:
    """Return the columns of pictures and labels, by the schema and what Hugging Face wrote beside it."""
    label_columns = names_of(schema)
    pictures = _picture_columns(schema)
    labels = [name for name in (*label_columns, *LABELS) if name in schema.names]
    if not pictures or not labels:
        raise UserError(
            f"{file} has no column of pictures' bytes with a column {' or '.join(LABELS)}; it has: "
            f"{', '.join(schema.names)}"
        )
    label = labels[0]
    return _Columns(pictures[0], label, label_columns.get(label))


def _picture_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of pictures' bytes."""
    structs = [field.name for field in schema if pa.types.is_struct(field.type)]
    pictures = [f"{name}.bytes" for name in structs if schema.field(name).type.get_field_index("bytes") >= 0]
    binary = (pa.binary(), pa.large_binary())
    return pictures + [field.name for field in schema if field.type in binary]


def holds_pictures(folder: Folder) -> bool:
    """Return whether the first parquet file of a folder has pictures' bytes; one that cannot be read may have."""
    try:
        return bool(_picture_columns(pq.read_schema(folder.path / _files(folder)[0])))
    except (pa.ArrowException, OSError):
        return True


def names_of(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names that stand behind label numbers, by column."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: list(feature["names"]) for name, feature in features.items() if "names" in feature}
    except (TypeError, KeyError, ValueError, AttributeError):  # there are none, or in a form of their own
        return {}


def _labels(file: Path, *, numbers: bool) -> list[str | None]:
    """Return the name of each row's label; None where a row has none.

    Args:
        file: the parquet file.
        numbers: whether ``data.labels`` is there to name numbers that the file has no names for.
    """
    with _opened(file) as (opened, columns):
        column = opened.read([columns.label])[columns.label]
    if columns.names is None and pa.types.is_integer(column.type) and not numbers:
        raise UserError(
            f"{file}: {columns.label} holds numbers, and the file does not say what they stand for: say it with "
            "data.labels={0: neutral, ...}"
        )
    values = column.to_pylist()
    if (names := columns.names) is None:
        return [None if value in (None, "") else str(value) for value in values]
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]


def _pictures(folder: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """Yield the pictures of some rows; a missing one is an empty file."""
    return (picture or b"" for picture in numbered(paths, partial(_chunks, folder)))


def _chunks(folder: Path, file: str) -> Iterator[pa.Array]:
    with _opened(folder / file) as (opened, columns):
        for batch in opened.iter_batches(PICTURES_AT_ONCE, columns=[columns.picture]):
            column = batch.column(0)
            yield column.field("bytes") if pa.types.is_struct(column.type) else column

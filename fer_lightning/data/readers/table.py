"""Any table with a row for each face: CSV, TSV or parquet, with a picture's path, a label, and more."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest, make_rows
from fer_lightning.data.persons import attributes, is_column
from fer_lightning.data.readers import parquet
from fer_lightning.data.readers.common import (
    NUMBER,
    OUTSIDE,
    keep_classes,
    no_picture,
    numbers_of,
    set_aside,
    split_of,
    unique_ids,
)
from fer_lightning.data.readers.labels import Labels, Names, chosen_classes, hint_at_labels, label_names, plain
from fer_lightning.data.readers.layouts import Folder, Layout, require_folder
from fer_lightning.data.readers.table_columns import (
    CORNERS,
    SIZES,
    USUAL,
    check_said,
    find_columns,
    require_columns,
    with_boxes,
)
from fer_lightning.data.readers.table_paths import relative_to_root
from fer_lightning.data.readers.text_tables import look_at, read_csv

ENDINGS = (".csv", ".tsv", ".parquet")
FOLDERS = (".", "annotations", "labels", "metadata")
"""Folders that may hold the tables."""

Columns = Mapping[str, str | None]

log = logging.getLogger(__name__)


def _tables(folder: Folder, said: Columns) -> list[str]:
    """Return the tables of pictures and labels in the first folder that has such."""
    for above in FOLDERS:
        names = [name for name in folder.files(above, []) if name.lower().endswith(ENDINGS)]
        tables = [posixpath.normpath(f"{above}/{name}") for name in names]
        if found := [table for table in tables if _roles(folder.path / table, said) >= {"path", "label"}]:
            return found
    return []


def _roles(file: Path, said: Columns) -> set[str]:
    """Return what a table has columns for; nothing if it is none."""
    try:
        return set(find_columns(_names(file), said))
    except UserError:
        return set()


LAYOUT = Layout(
    "csv",
    "data=csv",
    "CSV, TSV or parquet file with columns such as path and label",
    lambda folder: bool(_tables(folder, {})),
)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    table: str | list[str] | None = None,
    columns: dict[str, str | None] | None = None,
    group: str | None = None,
    recall_by: Sequence[str] | None = None,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read tables with a row for each face.

    A table without a column for the split belongs to the one that its name contains (val.csv), else to the
    training part. A box is x, y, width, height or left, top, right, bottom in pixels; without one the picture is
    the face.

    Args:
        root: the folder that holds the tables and the pictures, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        table: the tables, relative to the root; None: the only one, or those with a split in their names.
        columns: names of columns by what they hold (``table_columns.ROLES``); None is for what shall not be read.
            Others are found by their usual names.
        group: name of the column that says who is pictured, unless it is a regular expression on the path.
        recall_by: names of columns, such as sex, by whose values recall is told.
        labels: classes by the set's own labels, see ``label_names``; needed where labels are numbers.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Raises:
        UserError: no root, no table or several, a column is missing, numbers without names, no usable row, or an
            unknown class.
    """
    said = {**(columns or {}), **({"identity": group} if is_column(group) else {})}
    check_said(said)
    folder, files = _chosen(root, table, said, follow_links)
    faults = _without_labels(folder, files, said)
    parts = [_read(folder, file, said, faults, recall_by or ()) for file in with_progress(files, progress)]
    rows = pa.concat_tables([part for part, _ in parts], promote_options="default")
    codes = {code: name for _, names in parts for code, name in names.items()}
    rows = rows.append_column("id", unique_ids(rows["path"]))
    found = [label for label in pc.unique(rows["label"]).to_pylist() if label]
    names = label_names(LAYOUT.title, found, classes, labels, codes)
    _require_named(files, found, names)
    chosen = chosen_classes(LAYOUT.title, classes, names.classes, names.unknown, folder)
    rows = _with_our_names(rows, names, classes, faults)
    rows, skipped, left_out = keep_classes(rows, chosen)
    rows = _sound(rows, faults)
    if not len(rows):
        raise no_picture(LAYOUT.title, folder, chosen, faults)
    return Manifest(
        LAYOUT.option,
        folder.path,
        make_rows({name: rows[name] for name in rows.column_names}),
        chosen,
        skipped,
        tuple(faults),
        follow_links=follow_links,
        annotations=tuple(files),
        left_out=left_out,
    )


def _chosen(
    root: str | None, table: str | list[str] | None, said: Columns, follow_links: bool
) -> tuple[Folder, list[str]]:
    """Return the folder and the tables in it to read.

    Raises:
        UserError: there is none, or several, and nothing says which.
    """
    if table:
        folder = Folder(require_folder(LAYOUT.title, root, LAYOUT.sign), follow_links)
        named = [table] if isinstance(table, str) else table
        files = [os.path.relpath(folder.path / file, folder.path).replace(os.sep, "/") for file in named]
        if missing := [file for file in files if not folder.is_file(file)]:
            raise UserError(f"data.table: no {missing[0]} in {folder.path}; {folder.holdings()}")
        return folder, files
    layout = Layout(LAYOUT.option, LAYOUT.title, LAYOUT.sign, lambda folder: bool(_tables(folder, said)))
    folder = layout.find(root, follow_links)
    files = _tables(folder, said)
    if len(files) > 1 and not all(split_of(Path(file).stem) for file in files):
        raise UserError(
            f"data=csv: {folder.path} has several tables: {', '.join(files)}; say data.table=<one of them>"
        )
    return folder, files


def _without_labels(folder: Folder, files: Sequence[str], said: Columns) -> list[Fault]:
    """Return a fault for each table of pictures beside ``files`` that has no labels, as those of test sets."""
    above = posixpath.dirname(files[0]) or "."
    faults = []
    for name in folder.files(above, []):
        table = posixpath.normpath(f"{above}/{name}")
        if table not in files and name.lower().endswith(ENDINGS) and split_of(Path(name).stem):
            roles = _roles(folder.path / table, said)
            if "path" in roles and "label" not in roles:
                detail = "it has no column for the label by a usual name"
                faults.append(Fault("missing_annotation", table, detail))
    return faults


def _names(file: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        UserError: the file cannot be read.
    """
    if file.suffix != ".parquet":
        return list(look_at(file).names)
    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as parquet: {error}") from error


def _read(
    folder: Folder, file: str, said: Columns, faults: list[Fault], recall_by: Sequence[str]
) -> tuple[pa.Table, dict[int, str]]:
    """Return a table's columns by what they hold, as text, and the names of label numbers if the file has them."""
    path = folder.path / file
    names = _names(path)
    used = find_columns(names, said)
    require_columns(str(path), names, used)
    if unknown := [name for name in recall_by if name not in names]:
        raise UserError(
            f"data.recall_by: {path} has no column {unknown[0]!r}{did_you_mean(unknown[0], names)}; it has: "
            f"{', '.join(names)[:300]}"
        )
    wanted = list(dict.fromkeys([*used.values(), *recall_by]))
    unread = [name for name in names if name not in wanted]
    log.info(
        "data=csv: %s: %s%s",
        file,
        ", ".join(f"{role} from {name}" for role, name in used.items()),
        f"; not read: {', '.join(unread)[:200]}" if unread else "",
    )
    codes: dict[int, str] = {}
    if path.suffix == ".parquet":
        try:
            table = pq.read_table(path, columns=wanted)
            codes = dict(enumerate(parquet.names_of(table.schema).get(used["label"], [])))
            table = pa.table({name: pc.fill_null(table[name].cast(pa.string()), "") for name in wanted})
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read as a table of texts and numbers: {error}") from error
    else:
        table = read_csv(path, wanted, faults)
    cells = {role: table[name] for role, name in used.items()}
    cells["path"] = relative_to_root(folder, file, cells["path"])
    cells = {role: pc.utf8_trim_whitespace(column) for role, column in cells.items()}
    if recall_by:
        cells["attributes"] = attributes(table.select(list(recall_by)))
    if "split" not in used:
        split = split_of(Path(file).stem) or "train"
        cells["split"] = pa.array([split] * len(table), pa.string())
    return pa.table(cells), codes


def _require_named(files: Sequence[str], found: Sequence[str], names: Names) -> None:
    """Refuse labels that are numbers, none of which has a name."""
    numbers = sorted({plain(label) for label in found}, key=lambda label: (len(label), label))
    if numbers and all(label.isdecimal() for label in numbers) and not any(map(names.get, numbers)):
        example = ", ".join(f"{number}: <class>" for number in numbers[:3])
        raise UserError(
            f"data=csv: the labels in {', '.join(files)} are the numbers {', '.join(numbers[:20])}, and nothing "
            f"says what they stand for: say it with 'data.labels={{{example}, ...}}', such as "
            f"'data.labels={{{numbers[0]}: neutral, ...}}'"
        )


def _by_value(column: pa.ChunkedArray, names: Mapping[str, str | None]) -> pa.ChunkedArray:
    """Return the name for each value of a column."""
    values = pa.array(list(names), pa.string())
    return pa.array(list(names.values()), pa.string()).take(pc.index_in(column, values))


def _with_our_names(rows: pa.Table, names: Names, classes: Sequence[str] | None, faults: list[Fault]) -> pa.Table:
    """Return the rows with our names of labels and splits; rows without such become faults."""
    labels = {label: names.get(label) if label else None for label in pc.unique(rows["label"]).to_pylist()}
    ours = _by_value(rows["label"], labels)
    unknown = pc.is_null(ours)
    hints = {label: hint_at_labels(label[:40], classes) for label, name in labels.items() if name is None}
    for row in rows.filter(unknown).select(["id", "label"]).to_pylist():
        label = row["label"]
        detail = f"label {label[:40]}; {hints[label]}" if label else "its label is empty"
        faults.append(Fault("unknown_label", row["id"], detail))
    rows = rows.set_column(rows.schema.get_field_index("label"), "label", ours).filter(pc.invert(unknown))
    splits = _by_value(rows["split"], {name: split_of(name) for name in pc.unique(rows["split"]).to_pylist()})
    unknown = pc.is_null(splits)
    kept = set_aside(rows, unknown, "unknown_split", ("split",), faults)
    index = rows.schema.get_field_index("split")
    return kept.set_column(index, "split", splits.filter(pc.invert(unknown)))


def _sound(rows: pa.Table, faults: list[Fault]) -> pa.Table:
    """Return the rows that can be used, with the columns of a manifest."""
    rows = set_aside(rows, pc.equal(rows["path"], ""), "no_path", ("label",), faults)
    rows = set_aside(rows, pc.match_substring_regex(rows["path"], OUTSIDE), "outside_root", ("path",), faults)
    box = next((box for box in (CORNERS, SIZES) if set(box) <= set(rows.column_names)), None)
    if box:
        rows = with_boxes(rows, box, faults)
    columns = {name: rows[name] for name in rows.column_names if name in ("id", *USUAL, *SIZES, "attributes")}
    for name in ("valence", "arousal"):
        if name in columns:
            values = numbers_of(columns[name], NUMBER)
            columns[name] = pc.if_else(pc.less_equal(pc.abs(values), 1.0), values, None)
    if "identity" in columns:
        columns["identity"] = pc.if_else(pc.equal(columns["identity"], ""), None, columns["identity"])
    return pa.table(columns)

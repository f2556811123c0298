"""AffectNet's first release: training.csv and validation.csv beside a tree of pictures; its automatic part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.emotions import AFFECTNET_CODES
from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, LeftOut, Manifest, make_rows
from fer_lightning.data.readers.common import (
    NUMBER,
    OUTSIDE,
    WHOLE_NUMBER,
    keep_classes,
    no_picture,
    numbers_of,
    set_aside,
    unique_ids,
)
from fer_lightning.data.readers.labels import Labels, Names, chosen_classes, coded_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout, require_folder
from fer_lightning.data.readers.text_tables import has_columns, look_at, read_csv

PATH, EXPRESSION, FEELINGS = "subDirectory_filePath", "expression", ("valence", "arousal")
BOX = {"x": "face_x", "y": "face_y", "width": "face_width", "height": "face_height"}
NEEDED = (PATH, *BOX.values(), EXPRESSION)
COLUMNS = (PATH, *BOX.values(), "facial_landmarks", EXPRESSION, *FEELINGS)
"""Columns of both files, in the order they have where the header line is missing."""

CSV_FOLDERS = (
    "Manually_Annotated_file_lists",
    "Manually_Annotated",
    "Manually_Annotated/Manually_Annotated_file_lists",
    ".",
)
CSV_NAMES = {
    "train": ("training.csv", "Manually_training.csv"),
    "val": ("validation.csv", "Manually_validation.csv"),
}
AUTOMATIC_FOLDERS = tuple(name.replace("Manually", "Automatically") for name in CSV_FOLDERS)
AUTOMATIC_NAMES = ("automatically_annotated.csv",)

PICTURES = "Manually_Annotated_Images"
PICTURE_FOLDERS = tuple(
    f"{above}{PICTURES}{doubled}"
    for above in ("", "Manually_Annotated/", "Manually_Annotated_compressed/")
    for doubled in (f"/{PICTURES}", "")
)
AUTOMATIC_PICTURE_FOLDERS = tuple(name.replace("Manually", "Automatically") for name in PICTURE_FOLDERS)


def _csv_file(folder: Folder, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """Return the first of the possible CSV files that exists."""
    paths = (f"{subfolder}/{name}" for subfolder in folders for name in names)
    return next((folder.path / path for path in paths if folder.is_file(path)), None)


def _holds(folder: Folder) -> bool:
    """Return whether there is a training.csv with AffectNet's columns, or without a header."""
    file = _csv_file(folder, CSV_FOLDERS, CSV_NAMES["train"])
    return file is not None and (has_columns(file, [PATH]) or _is_headless(file))


LAYOUT = Layout("affectnet", "AffectNet", "training.csv", _holds)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    automatic: bool = False,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read AffectNet as it was first published (Mollahosseini et al. 2017, the CSV release).

    No picture is opened. The crop of a row is ``picture[y : y + height, x : x + width]``.

    Args:
        root: the unpacked folder; CSV files and pictures may lie in it in several ways.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        automatic: whether to train on the automatically annotated part, too. Paths are then relative to ``root``,
            and links must not lead out of ``root``.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Returns:
        The manifest, with valence and arousal where they were rated.

    Raises:
        UserError: no root, no CSV file, no picture folder, a column is missing, or an unknown class.
    """
    chosen = chosen_classes(LAYOUT.title, classes, coded_classes(AFFECTNET_CODES, labels))
    folder = Folder(require_folder(LAYOUT.title, root, LAYOUT.sign), follow_links)
    files = [(split, _find_csv(folder, CSV_FOLDERS, names)) for split, names in CSV_NAMES.items()]
    if automatic:
        files.append(("train", _find_csv(folder, AUTOMATIC_FOLDERS, AUTOMATIC_NAMES)))
    faults: list[Fault] = []
    tables = []
    for split, file in with_progress(files, progress):
        table = _read_csv(file, faults)
        tables.append(table.append_column("split", pa.array([split] * len(table), pa.string())))
    pictures = _find_pictures(folder, PICTURE_FOLDERS, [table[PATH] for table in tables[:2]])
    if automatic:
        automatic_pictures = _find_pictures(folder, AUTOMATIC_PICTURE_FOLDERS, [tables[2][PATH]])
        folders = (pictures, pictures, automatic_pictures)
        tables = [_relative_to(folder.path, below, table) for below, table in zip(folders, tables, strict=True)]
        pictures = folder.path
    table = pa.concat_tables(tables)
    table = table.append_column("id", unique_ids(table[PATH]))
    names = label_names(LAYOUT.title, pc.unique(table[EXPRESSION]).to_pylist(), classes, labels, AFFECTNET_CODES)
    sound, skipped, left_out = _sound_rows(table, names, chosen, faults)
    if not len(sound):
        raise no_picture(LAYOUT.title, folder, chosen, faults)
    return Manifest(
        LAYOUT.option,
        pictures,
        sound,
        chosen,
        skipped,
        tuple(faults),
        follow_links=follow_links,
        folder=folder.path,
        annotations=tuple(file.relative_to(folder.path).as_posix() for _, file in files),
        left_out=left_out,
    )


def _find_csv(folder: Folder, folders: Sequence[str], names: Sequence[str]) -> Path:
    if file := _csv_file(folder, folders, names):
        return file
    places = f"{folder.path} or its {', '.join(folders[:-1])}"
    raise UserError(f"AffectNet: no {' or '.join(names)} in {places}; {folder.holdings()}")


def _find_pictures(folder: Folder, variants: Sequence[str], paths: Sequence[pa.ChunkedArray]) -> Path:
    """Return the variant that contains one of the first pictures, else the first variant that exists."""
    existing = [replace(folder, path=folder.path / name) for name in variants if folder.is_folder(name)]
    if not existing:
        raise UserError(f"AffectNet: no folder {variants[1]} in {folder.path}; {folder.holdings()}")
    first = [path for column in paths for path in column.slice(0, 20).to_pylist()]
    matches = (pictures for pictures in existing if any(path and pictures.is_file(path) for path in first))
    return next(matches, existing[0]).path


def _relative_to(root: Path, pictures: Path, table: pa.Table) -> pa.Table:
    """Return the table with paths relative to the root; paths that may lead out of ``pictures`` do not change."""
    longer = pc.binary_join_element_wise(pictures.relative_to(root).as_posix(), table[PATH], "/")
    unchanged = pc.or_(pc.equal(table[PATH], ""), pc.match_substring_regex(table[PATH], OUTSIDE))
    paths = pc.if_else(unchanged, table[PATH], longer)
    return table.set_column(table.schema.get_field_index(PATH), PATH, paths)


def _read_csv(file: Path, faults: list[Fault]) -> pa.Table:
    """Read the columns of one file as text; lines with too few or too many cells become faults."""
    first_row = look_at(file, COLUMNS)
    headless = _is_headless(file)
    rated = [name for name in FEELINGS if headless or first_row.has(name)]
    table = read_csv(file, [*NEEDED, *rated], faults, COLUMNS if headless else None)
    if len(table) == 0:
        raise UserError(f"{file} has no row that can be read; AffectNet's has {len(COLUMNS)} cells a line")
    for name in FEELINGS:
        if name not in rated:
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
    return table.select([*NEEDED, *FEELINGS])


def _is_headless(file: Path) -> bool:
    """Return whether the first line is that of a picture, whose path it begins with."""
    return "/" in "".join(look_at(file, COLUMNS).names[:1])


def _sound_rows(
    table: pa.Table, names: Names, classes: Sequence[str], faults: list[Fault]
) -> tuple[pa.Table, LeftOut, list[str]]:
    """Return the usable rows of the classes, the number of other rows by split and label, and their paths."""
    different = pc.unique(table[EXPRESSION])
    ours = pa.array([names.get(label) for label in different.to_pylist()], pa.string())
    table = table.append_column("label", ours.take(pc.index_in(table[EXPRESSION], different)))
    for name, column in BOX.items():
        table = table.append_column(name, numbers_of(table[column], WHOLE_NUMBER).cast(pa.int32(), safe=False))
    table = set_aside(table, pc.is_null(table["label"]), "unknown_label", (EXPRESSION,), faults)
    table, skipped, left_out = keep_classes(table, classes, PATH)
    table = set_aside(table, pc.equal(table[PATH], ""), "no_path", (EXPRESSION,), faults)
    table = set_aside(table, pc.match_substring_regex(table[PATH], OUTSIDE), "outside_root", (PATH,), faults)
    positions = [pc.is_valid(table[name]) for name in ("x", "y")]
    box = reduce(pc.and_, [*positions, *(pc.greater(table[name], 0) for name in ("width", "height"))])
    table = set_aside(table, pc.invert(pc.fill_null(box, False)), "unusable_box", tuple(BOX.values()), faults)
    columns = {name: table[name] for name in ("id", "label", "split", *BOX)}
    for name in FEELINGS:
        values = numbers_of(table[name], NUMBER)
        columns[name] = pc.if_else(pc.less_equal(pc.abs(values), 1.0), values, None)  # -2 stands for not rated
    return make_rows({"path": table[PATH], **columns}), skipped, left_out

"""AffectNet's old release: training.csv and validation.csv beside a tree of pictures; its automatic part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.emotions import AFFECTNET_CODES
from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, LeftOut, Manifest, make_rows
from fer_lightning.data.readers.common import (
    OUTSIDE,
    chosen_classes,
    count_by_split,
    header,
    read_csv,
    require_columns,
    unique_ids,
)
from fer_lightning.data.readers.layouts import Layout, holdings, is_file

COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
"""The columns of both files, in the order they have where the header line is missing."""

PATH, X, Y, WIDTH, HEIGHT, EXPRESSION, VALENCE, AROUSAL = (c for c in COLUMNS if c != "facial_landmarks")
NEEDED = (PATH, X, Y, WIDTH, HEIGHT, EXPRESSION)

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

WHOLE_NUMBER = r"^[+-]?\d{1,7}(\.\d*)?$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$"


def _holds(folder: Path) -> bool:
    return _csv_file(folder, CSV_FOLDERS, CSV_NAMES["train"]) is not None


LAYOUT = Layout("affectnet", "AffectNet", "training.csv", _holds)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    automatic: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read AffectNet as it was first published (Mollahosseini et al. 2017, the CSV release).

    No picture is opened. The crop of a row is ``picture[y : y + height, x : x + width]``.

    Args:
        root: the folder that was unpacked; where CSV files and pictures lie below it is found out.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        automatic: train on the automatically annotated part, too. Paths are then relative to ``root``, and it is
            the root that links must not lead out of.
        progress: called with (files read, files).

    Raises:
        UserError: no root, no CSV file, no picture folder, a needed column is missing, an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, AFFECTNET_CODES.values())
    folder = LAYOUT.existing(root)
    files = [(split, _find_csv(folder, CSV_FOLDERS, names)) for split, names in CSV_NAMES.items()]
    if automatic:
        files.append(("train", _find_csv(folder, AUTOMATIC_FOLDERS, AUTOMATIC_NAMES)))
    faults: list[Fault] = []
    tables = []
    for done, (split, file) in enumerate(files, start=1):
        table = _read_csv(file, faults)
        tables.append(table.append_column("split", pa.array([split] * len(table), pa.string())))
        if progress:
            progress(done, len(files))
    pictures = _find_pictures(folder, PICTURE_FOLDERS, [table[PATH] for table in tables[:2]])
    if automatic:
        below = _find_pictures(folder, AUTOMATIC_PICTURE_FOLDERS, [tables[2][PATH]])
        tables = [*(_below(pictures, folder, table) for table in tables[:2]), _below(below, folder, tables[2])]
    table = pa.concat_tables(tables)
    table = table.append_column("id", unique_ids(table[PATH]))
    rows, skipped = _judge(table, classes, faults)
    return Manifest(
        name="affectnet",
        root=folder if automatic else pictures,
        rows=rows,
        classes=classes,
        skipped=skipped,
        faults=tuple(faults),
    )


def _csv_file(folder: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    places = (f"{sub}/{name}" for sub in folders for name in names)
    return next((folder / place for place in places if is_file(folder, place)), None)


def _find_csv(folder: Path, folders: Sequence[str], names: Sequence[str]) -> Path:
    if file := _csv_file(folder, folders, names):
        return file
    raise UserError(
        f"AffectNet: no {' or '.join(names)} in {folder}, nor in its {', '.join(folders[:-1])}; {holdings(folder)}"
    )


def _find_pictures(folder: Path, variants: Sequence[str], paths: Sequence[pa.ChunkedArray]) -> Path:
    """The variant in which one of the first pictures lies; else the first variant that is there at all."""
    there = [folder / sub for sub in variants if (folder / sub).is_dir()]
    if not there:
        raise UserError(f"AffectNet: no folder {variants[1]} in {folder}; {holdings(folder)}")
    first = [path for column in paths for path in column.slice(0, 20).to_pylist()]
    holding = (place for place in there if any(path and is_file(place, path) for path in first))
    return next(holding, there[0])


def _below(pictures: Path, root: Path, table: pa.Table) -> pa.Table:
    """The table with paths relative to the root; those that may lead out of ``pictures`` stay as they are."""
    longer = pc.binary_join_element_wise(pictures.relative_to(root).as_posix(), table[PATH], "/")
    stays = pc.or_(pc.equal(table[PATH], ""), pc.match_substring_regex(table[PATH], OUTSIDE))
    return table.set_column(table.schema.get_field_index(PATH), PATH, pc.if_else(stays, table[PATH], longer))


def _read_csv(file: Path, faults: list[Fault]) -> pa.Table:
    """The columns of one file as text; lines with too few or too many cells become faults."""
    names = header(file)
    headed = "/" not in names[0]  # else it is a picture's path already
    if headed:
        require_columns(file, names, NEEDED)
    else:
        names = list(COLUMNS)
    wanted = [*NEEDED, *(name for name in (VALENCE, AROUSAL) if name in names)]
    table = read_csv(file, names, wanted, faults, skip=int(headed))
    if len(table) == 0:
        raise UserError(f"{file} has no row that can be read; AffectNet's has {len(COLUMNS)} cells a line")
    for name in (VALENCE, AROUSAL):
        if name not in wanted:
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
    return table.select([*NEEDED, VALENCE, AROUSAL])


def _judge(table: pa.Table, classes: Sequence[str], faults: list[Fault]) -> tuple[pa.Table, LeftOut]:
    """Rows of the classes, and how many others there are by split and label; what is wrong goes to ``faults``."""
    names = pa.array(list(AFFECTNET_CODES.values()))
    codes = pa.array([str(code) for code in AFFECTNET_CODES])
    label = names.take(pc.index_in(pc.utf8_trim_whitespace(table[EXPRESSION]), codes))
    table = table.append_column("label", label)
    for name in (X, Y, WIDTH, HEIGHT):
        pixels = _numbers(table[name], WHOLE_NUMBER).cast(pa.int32(), safe=False)
        table = table.append_column(f"{name} in pixels", pixels)

    table = _set_aside(table, pc.is_null(label), "unknown_label", (EXPRESSION,), faults)
    wanted = pc.is_in(table["label"], pa.array(list(classes), pa.string()))
    left_out = count_by_split(table.filter(pc.invert(wanted)))
    table = table.filter(wanted)
    table = _set_aside(table, pc.equal(table[PATH], ""), "no_path", (EXPRESSION,), faults)
    outside = pc.match_substring_regex(table[PATH], OUTSIDE)
    table = _set_aside(table, outside, "outside_root", (PATH,), faults)
    x, y, width, height = (table[f"{name} in pixels"] for name in (X, Y, WIDTH, HEIGHT))
    sound = pc.and_(pc.and_(pc.is_valid(x), pc.is_valid(y)), pc.and_(pc.greater(width, 0), pc.greater(height, 0)))
    unusable = pc.invert(pc.fill_null(sound, False))
    table = _set_aside(table, unusable, "unusable_box", (X, Y, WIDTH, HEIGHT), faults)
    return _rows(table), left_out


def _set_aside(
    table: pa.Table, wrong: pa.ChunkedArray, kind: str, shown: Sequence[str], faults: list[Fault]
) -> pa.Table:
    """The table without the ``wrong`` rows; each of them becomes a fault that shows some of its cells."""
    for row in table.filter(wrong).select(["id", *shown]).to_pylist():
        detail = ", ".join(f"{name} {row[name] or 'empty'}" for name in shown)
        faults.append(Fault(kind, row["id"], detail))
    return table.filter(pc.invert(wrong))


def _rows(table: pa.Table) -> pa.Table:
    feeling = {name: _numbers(table[name], NUMBER) for name in (VALENCE, AROUSAL)}
    known = {name: pc.less_equal(pc.abs(values), 1.0) for name, values in feeling.items()}  # -2: not rated
    return make_rows(
        {
            "id": table["id"],
            "path": table[PATH],
            "label": table["label"],
            "split": table["split"],
            "x": table[f"{X} in pixels"],
            "y": table[f"{Y} in pixels"],
            "width": table[f"{WIDTH} in pixels"],
            "height": table[f"{HEIGHT} in pixels"],
            "valence": pc.if_else(known[VALENCE], feeling[VALENCE], None),
            "arousal": pc.if_else(known[AROUSAL], feeling[AROUSAL], None),
        }
    )


def _numbers(texts: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Texts as float64; null where one does not match the pattern ("NULL", "", ...)."""
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.match_substring_regex(trimmed, pattern), trimmed, None).cast(pa.float64())

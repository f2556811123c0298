"""AffectNet's old release: training.csv and validation.csv beside a tree of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from fer_lightning.data.manifest import Fault, Manifest, make_rows
from fer_lightning.errors import UserError
from fer_lightning.labels import AFFECTNET_CODES

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
    "test": ("validation.csv", "Manually_validation.csv"),
}
PICTURES = "Manually_Annotated_Images"
PICTURE_FOLDERS = tuple(
    f"{above}{PICTURES}{doubled}"
    for above in ("", "Manually_Annotated/", "Manually_Annotated_compressed/")
    for doubled in (f"/{PICTURES}", "")
)

OUTSIDE = r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:"
WHOLE_NUMBER = r"^[+-]?\d{1,7}(\.\d*)?$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$"


def read(
    root: str | None,
    classes: Sequence[str],
    test_split: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read AffectNet's manually annotated part (Mollahosseini et al. 2017, the CSV release).

    No picture is opened. The crop of a row is ``picture[y : y + height, x : x + width]``.

    Args:
        root: the folder that was unpacked; where CSV files and pictures lie below it is found out.
        classes: names of the classes to keep, in the classifier's order; other labels are counted.
        test_split: "val", the official validation set; the test set was never published.
        progress: called with (files read, files).

    Raises:
        UserError: no root, no CSV file, no picture folder, a needed column is missing, an unknown class,
            another ``test_split``.
    """
    if test_split != "val":
        raise UserError(f"AffectNet has no split {test_split!r} to test on; it has data.test_split=val")
    if unknown := [name for name in classes if name not in AFFECTNET_CODES.values()]:
        raise UserError(f"AffectNet has no class {unknown[0]!r}; it has: {', '.join(AFFECTNET_CODES.values())}")
    folder = _existing(root)
    files = {split: _find_csv(folder, names) for split, names in CSV_NAMES.items()}
    tables = []
    faults: list[Fault] = []
    for done, (split, file) in enumerate(files.items(), start=1):
        table = _read_csv(file, faults)
        tables.append(table.append_column("split", pa.array([split] * len(table), pa.string())))
        if progress:
            progress(done, len(files))
    table = pa.concat_tables(tables)
    table = table.append_column("id", _unique_ids(table[PATH]))
    rows, skipped = _judge(table, classes, faults)
    return Manifest(
        name="affectnet",
        root=_find_pictures(folder, table[PATH]),
        rows=rows,
        classes=tuple(classes),
        skipped=skipped,
        faults=tuple(faults),
    )


def _existing(root: str | None) -> Path:
    if root is None:
        raise UserError("AffectNet: no folder given; say data.root=<the folder that holds training.csv>")
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"AffectNet: {root} is not a folder; say data.root=<the folder that holds training.csv>")
    return folder


def _find_csv(folder: Path, names: Sequence[str]) -> Path:
    places = [folder / sub / name for sub in CSV_FOLDERS for name in names]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"AffectNet: no {' or '.join(names)} in {folder}, nor in its {', '.join(CSV_FOLDERS[:-1])}; "
        f"it holds: {_listing(folder)}"
    )


def _find_pictures(folder: Path, paths: pa.ChunkedArray) -> Path:
    """The variant in which one of the first pictures lies; else the first variant that is there at all."""
    there = [folder / sub for sub in PICTURE_FOLDERS if (folder / sub).is_dir()]
    if not there:
        raise UserError(f"AffectNet: no folder {PICTURES} in {folder}; it holds: {_listing(folder)}")
    unsafe = pc.match_substring_regex(paths, OUTSIDE)
    probes = paths.filter(pc.invert(unsafe)).slice(0, 20).to_pylist()
    holding = (place for place in there if any((place / probe).is_file() for probe in probes if probe))
    return next(holding, there[0])


def _listing(folder: Path) -> str:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more if names else "nothing"


def _read_csv(file: Path, faults: list[Fault]) -> pa.Table:
    """The columns of one file as text; lines with too few or too many cells become faults."""
    names = _header(file)
    wanted = [*NEEDED, *(name for name in (VALENCE, AROUSAL) if name in (names or COLUMNS))]

    def broken(row: Any) -> str:
        cells = f"{row.actual_columns} cells in place of {row.expected_columns}"
        faults.append(Fault("broken_line", row.text.split(",")[0][:200], f"{file.name}: {cells}"))
        return "skip"

    try:
        table = csv.read_csv(
            file,
            csv.ReadOptions(column_names=names or COLUMNS, skip_rows=0 if names is None else 1),
            csv.ParseOptions(invalid_row_handler=broken),
            csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())),
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}") from error
    if len(table) == 0:
        raise UserError(f"{file} has no row that can be read; AffectNet's has {len(COLUMNS)} cells a line")
    for name in (VALENCE, AROUSAL):
        if name not in wanted:
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
    return table.select([*NEEDED, VALENCE, AROUSAL])


def _header(file: Path) -> list[str] | None:
    """The names in a file's header line; None where its first cell is a picture's path already."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            cells = [cell.strip().strip('"') for cell in stream.readline().rstrip("\r\n").split(",")]
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if "/" in cells[0]:
        return None
    if missing := [name for name in NEEDED if name not in cells]:
        raise UserError(f"{file} has no column {missing[0]!r}; it has: {', '.join(cells)[:300] or 'nothing'}")
    return cells


def _unique_ids(paths: pa.ChunkedArray) -> pa.Array:
    """The paths, with #2, #3, ... where one occurs again (a picture with several faces, or a row twice)."""
    codes = paths.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    first = np.cumsum(counts) - counts
    occurrence = np.empty(len(codes), np.int64)
    occurrence[order] = np.arange(len(codes)) - np.repeat(first, counts)
    again = pc.binary_join_element_wise(paths, pa.array(occurrence + 1).cast(pa.string()), "#")
    return pc.if_else(pa.array(occurrence > 0), again, paths)


def _judge(table: pa.Table, classes: Sequence[str], faults: list[Fault]) -> tuple[pa.Table, dict[str, int]]:
    """Rows to train and test on, and how many were left out by label; what is wrong goes to ``faults``."""
    names = pa.array(list(AFFECTNET_CODES.values()))
    codes = pa.array([str(code) for code in AFFECTNET_CODES])
    label = names.take(pc.index_in(pc.utf8_trim_whitespace(table[EXPRESSION]), codes))
    table = table.append_column("label", label)
    for name in (X, Y, WIDTH, HEIGHT):
        pixels = _numbers(table[name], WHOLE_NUMBER).cast(pa.int32(), safe=False)
        table = table.append_column(f"{name} in pixels", pixels)

    table = _set_aside(table, pc.is_null(label), "unknown_label", (EXPRESSION,), faults)
    wanted = pc.is_in(table["label"], pa.array(list(classes), pa.string()))
    counted = table["label"].filter(pc.invert(wanted)).value_counts().to_pylist()
    left_out = {row["values"]: row["counts"] for row in counted}
    table = table.filter(wanted)
    table = _set_aside(table, pc.equal(table[PATH], ""), "no_path", (EXPRESSION,), faults)
    outside = pc.match_substring_regex(table[PATH], OUTSIDE)
    table = _set_aside(table, outside, "outside_root", (PATH,), faults)
    x, y, width, height = (table[f"{name} in pixels"] for name in (X, Y, WIDTH, HEIGHT))
    sound = pc.and_(pc.and_(pc.is_valid(x), pc.is_valid(y)), pc.and_(pc.greater(width, 0), pc.greater(height, 0)))
    unusable = pc.invert(pc.fill_null(sound, False))
    table = _set_aside(table, unusable, "unusable_box", (X, Y, WIDTH, HEIGHT), faults)
    return _rows(table), {name: left_out[name] for name in AFFECTNET_CODES.values() if name in left_out}


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

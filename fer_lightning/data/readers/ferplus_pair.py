"""FERPlus as two tables with a row for each face: FER2013's pictures, and fer2013new.csv with the votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.emotions import SYNONYMS
from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, make_rows
from fer_lightning.data.readers import fer2013
from fer_lightning.data.readers.common import set_aside, split_of
from fer_lightning.data.readers.labels import Names
from fer_lightning.data.readers.layouts import Folder
from fer_lightning.data.readers.text_tables import read_csv, stream_csv
from fer_lightning.data.readers.votes import VOTES, countable, labels_and_shares

VOTES_FILE = "fer2013new.csv"
NAME, USAGE = "Image name", "Usage"
THEIR_NAMES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""What fer2013new.csv calls VOTES."""


def pictures_file(folder: Folder) -> Path | None:
    """Return the table of pictures beside fer2013new.csv; None without both."""
    names = fer2013.FILES if folder.is_file(VOTES_FILE) else ()
    return next((folder.path / name for name in names if folder.is_file(name)), None)


def rows(pictures: Path, names: Names, classes: Sequence[str], faults: list[Fault]) -> pa.Table:
    """Return manifest rows, whatever their label; rows that cannot be used become faults.

    Rows belong together by their position. FERPlus removed those without a name: they show no face.

    Args:
        pictures: fer2013.csv or icml_face_data.csv, beside fer2013new.csv.
        names: our names of the votes.
        classes: classes in the order of the votes' shares.
        faults: receives the faults.

    Raises:
        UserError: a table lacks a column, or the two do not belong together.
    """
    usage, sound = _pictures(pictures)
    table = _votes(pictures.with_name(VOTES_FILE))
    _require_pairs(pictures, usage, pc.utf8_trim_whitespace(table[USAGE]))
    table = table.append_column("id", pa.array([f"{pictures.name}#{number}" for number in range(len(table))]))
    table = table.append_column("sound", sound)
    table = set_aside(table, pc.invert(table["sound"]), "unreadable", (NAME,), faults)
    splits = {name: split_of(name or "") for name in pc.unique(table[USAGE]).to_pylist()}
    split = pa.array([splits[name] for name in table[USAGE].to_pylist()], pa.string())
    table = table.append_column("split", split)
    table = set_aside(table, pc.is_null(table["split"]), "unknown_split", (USAGE,), faults)
    table = countable(table, faults)
    columns = labels_and_shares(table, names, classes)
    named = pc.not_equal(pc.utf8_trim_whitespace(table[NAME]), "")
    columns["label"] = pc.if_else(named, columns["label"], names.ours[SYNONYMS["nf"]])
    return make_rows({"id": table["id"], "path": table["id"], "split": table["split"], **columns})


def _pictures(file: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the usage of each row, and whether its picture is one; the pictures themselves are not kept."""
    broken: list[Fault] = []
    usage, sound = [], []
    for batch in stream_csv(file, (USAGE, "pixels"), broken):
        usage.append(pc.utf8_trim_whitespace(batch[USAGE]))
        sound.append(fer2013.are_pictures(batch["pixels"]))
    _require_whole(file, broken)
    return pa.chunked_array(usage, pa.string()), pa.chunked_array(sound, pa.bool_())


def _votes(file: Path) -> pa.Table:
    broken: list[Fault] = []
    table = read_csv(file, (USAGE, NAME, *THEIR_NAMES), broken)
    _require_whole(file, broken)
    return table.rename_columns([USAGE, NAME, *VOTES])


def _require_whole(file: Path, broken: Sequence[Fault]) -> None:
    if broken:
        raise UserError(
            f"FERPlus: {file} has a broken line ({broken[0].path}, {broken[0].detail.partition(': ')[2]}), and "
            "pictures and votes belong together by the position of their rows; take a whole copy"
        )


def _require_pairs(pictures: Path, usage: pa.ChunkedArray, votes_usage: pa.ChunkedArray) -> None:
    both = f"FERPlus: {pictures} and {VOTES_FILE} do not belong together"
    if len(usage) != len(votes_usage):
        raise UserError(f"{both}: {len(usage)} and {len(votes_usage)} rows; take both as they were published")
    number = pc.index(pc.equal(usage, votes_usage), False).as_py()
    if number >= 0:
        raise UserError(
            f"{both}: row {number + 1} is {usage[number]} in the one and {votes_usage[number]} in the other; take "
            "both as they were published"
        )

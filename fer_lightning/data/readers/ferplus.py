"""FERPlus: FER2013's faces with ten votes each, in Microsoft's folder layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, LeftOut, Manifest, make_rows
from fer_lightning.data.readers.common import chosen_classes, count_by_split, read_csv
from fer_lightning.data.readers.layouts import Layout, is_file, is_folder

FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
VOTES = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt", "unknown", "not a face")
"""What the ten vote counts of a row stand for, in their order."""
NO_MAJORITY = "no majority"
BOX = r"^\(\s*(?P<left>\d{1,6})\s*,\s*(?P<top>\d{1,6})\s*,\s*(?P<right>\d{1,6})\s*,\s*(?P<bottom>\d{1,6})\s*\)$"
SIDE = 48  # every picture of FER2013 is 48 x 48
WRONG_NAME = r"^\.*$|[/\\]|^[A-Za-z]:"
LAYOUT = Layout("ferplus", "FERPlus", FOLDERS["train"], lambda folder: is_folder(folder, FOLDERS["train"]))


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read FERPlus (Barsoum et al. 2016) by its official majority rule, with the votes as shares.

    Args:
        root: the folder that holds FER2013Train and FER2013Valid or FER2013Test, or the one above it.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (files read, files).

    Raises:
        UserError: no root, a folder's label.csv is missing, an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, (*VOTES, NO_MAJORITY))
    folder = LAYOUT.find(root)
    files = {split: _labels(folder, name) for split, name in FOLDERS.items() if is_folder(folder, name)}
    faults: list[Fault] = []
    skipped: LeftOut = {}
    parts = []
    for done, (split, file) in enumerate(files.items(), start=1):
        rows = _rows(file, split, classes, faults)
        wanted = pc.is_in(rows["label"], pa.array(classes, pa.string()))
        skipped |= count_by_split(rows.filter(pc.invert(wanted)))
        parts.append(rows.filter(wanted))
        if progress:
            progress(done, len(files))
    return Manifest(
        name="ferplus",
        root=folder,
        rows=pa.concat_tables(parts),
        classes=classes,
        skipped=skipped,
        faults=tuple(faults),
    )


def majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The official rule: one vote is none, and the winner needs more than half of the votes that remain.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.

    Returns:
        (N,) index into VOTES; -1 where nothing has a majority.
    """
    counted = np.where(votes <= 1, 0, votes)
    winner = counted.argmax(axis=1)
    won = 2 * counted.max(axis=1) > counted.sum(axis=1)
    return np.where(won, winner, -1)


def _labels(folder: Path, name: str) -> Path:
    file = folder / name / "label.csv"
    if not is_file(folder, f"{name}/label.csv"):
        raise UserError(f"FERPlus: {file} is missing; take it from Microsoft's FERPlus repository")
    return file


def shares(votes: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float32]:
    """The votes for some classes as shares that sum to 1; single votes are none, as in ``majority``.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.
        classes: C names of VOTES; what another name gets is 0.

    Returns:
        (N, C); zeros where no class has more than one vote.
    """
    counted = np.zeros((len(votes), len(classes)), np.float32)
    for k, name in enumerate(classes):
        if name in VOTES:
            column = votes[:, VOTES.index(name)]
            counted[:, k] = np.where(column <= 1, 0, column)
    counted /= np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return counted


def _rows(file: Path, split: str, classes: Sequence[str], faults: list[Fault]) -> pa.Table:
    """One label file as manifest rows, whatever their label; what is wrong is added to ``faults``."""
    table = _sound_rows(file, faults)
    votes = np.stack([table[name].cast(pa.int64()).to_numpy() for name in VOTES], axis=1)
    names = np.array([*VOTES, NO_MAJORITY], dtype=object)  # index -1 is the last one
    paths = pc.binary_join_element_wise(file.parent.name, table["name"], "/")
    return make_rows(
        {
            "id": paths,
            "path": paths,
            "label": pa.array(names[majority(votes)], pa.string()),
            "split": pa.array([split] * len(table), pa.string()),
            **_boxes(table["box"]),
            "votes": pa.array(list(shares(votes, classes)), pa.list_(pa.float32())),
        }
    )


def _sound_rows(file: Path, faults: list[Fault]) -> pa.Table:
    """The rows of a label file as text, without those that cannot be used; they become faults."""
    names = ["name", "box", *VOTES]
    table = read_csv(file, names, names, faults, skip=0)
    votes = [pc.match_substring_regex(table[name], r"^\d{1,6}$") for name in VOTES]
    countable = votes[0]
    for column in votes[1:]:
        countable = pc.and_(countable, column)
    wrong = {
        "outside_root": pc.match_substring_regex(table["name"], WRONG_NAME),
        "unusable_box": pc.invert(pc.match_substring_regex(table["box"], BOX)),
        "bad_votes": pc.invert(countable),
    }
    return _set_aside(table, wrong, file, faults)


def _set_aside(table: pa.Table, wrong: dict[str, pa.ChunkedArray], file: Path, faults: list[Fault]) -> pa.Table:
    sound = pa.chunked_array([pa.repeat(True, len(table))])
    for kind, rows in wrong.items():
        for row in table.filter(pc.and_(rows, sound)).to_pylist():
            faults.append(Fault(kind, f"{file.parent.name}/{row['name']}", ",".join(list(row.values())[1:])))
        sound = pc.and_not(sound, rows)
    return table.filter(sound)


def _boxes(texts: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Corner texts "(left, top, right, bottom)" as x, y, width, height; the whole picture is no box."""
    corners = pc.extract_regex(texts, BOX)
    left, top, right, bottom = (
        pc.struct_field(corners, name).cast(pa.int32()) for name in ("left", "top", "right", "bottom")
    )
    whole = pc.equal(texts, f"(0, 0, {SIDE}, {SIDE})")
    box = {"x": left, "y": top, "width": pc.subtract(right, left), "height": pc.subtract(bottom, top)}
    return {name: pc.if_else(whole, None, values) for name, values in box.items()}

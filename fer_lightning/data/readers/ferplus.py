"""FERPlus: the faces of FER2013 with ten votes each, in Microsoft's folder layout."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest, make_rows
from fer_lightning.data.readers.common import chosen_classes, keep_classes, set_aside
from fer_lightning.data.readers.layouts import Layout, is_file, is_folder
from fer_lightning.data.readers.tables import read_csv

FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
VOTES = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt", "unknown", "not a face")
"""Names of the ten vote counts of a row, in their order."""

NO_MAJORITY = "no majority"
BOX = r"^\(\s*(?P<left>\d{1,6})\s*,\s*(?P<top>\d{1,6})\s*,\s*(?P<right>\d{1,6})\s*,\s*(?P<bottom>\d{1,6})\s*\)$"
SIDE = 48  # every picture of FER2013 is 48 x 48
WRONG_NAME = r"^\.*$|[/\\]|^[A-Za-z]:"
LAYOUT = Layout("ferplus", "FERPlus", FOLDERS["train"], lambda folder: is_folder(folder, FOLDERS["train"]))


def read(root: str | None, classes: Sequence[str] | None, *, progress: Progress | None = None) -> Manifest:
    """Read FERPlus (Barsoum et al. 2016) by its official majority rule, with the votes as shares.

    Args:
        root: the folder that holds FER2013Train and FER2013Valid or FER2013Test, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        progress: callback that receives (files read, files).

    Returns:
        The manifest, with the annotators' votes.

    Raises:
        UserError: no root, a folder without its label.csv, or an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, (*VOTES, NO_MAJORITY))
    folder = LAYOUT.find(root)
    files = [(split, _labels(folder, name)) for split, name in FOLDERS.items() if is_folder(folder, name)]
    faults: list[Fault] = []
    tables = [_rows(file, split, classes, faults) for split, file in with_progress(files, progress)]
    rows, skipped = keep_classes(pa.concat_tables(tables), classes)
    return Manifest("ferplus", folder, rows, classes, skipped, tuple(faults))


def _labels(folder: Path, name: str) -> Path:
    if not is_file(folder, f"{name}/label.csv"):
        raise UserError(
            f"FERPlus: {folder / name / 'label.csv'} is missing; take it from Microsoft's FERPlus repository"
        )
    return folder / name / "label.csv"


def _counted(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the vote counts without single votes, which the official rule takes for outliers."""
    return np.where(votes <= 1, 0, votes)


def majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Apply the official rule: a single vote does not count, and the winner needs more than half of the others.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.

    Returns:
        (N,) index into VOTES; -1 where nothing has a majority.
    """
    counted = _counted(votes)
    return np.where(2 * counted.max(axis=1) > counted.sum(axis=1), counted.argmax(axis=1), -1)


def shares(votes: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float32]:
    """Return the votes for some classes as shares that sum to 1; single votes do not count, as in ``majority``.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.
        classes: C names of VOTES; another name gets no votes.

    Returns:
        (N, C); zeros where no class has more than one vote.
    """
    counted = np.zeros((len(votes), len(classes)), np.float32)
    for k, name in enumerate(classes):
        if name in VOTES:
            counted[:, k] = _counted(votes[:, VOTES.index(name)])
    counted /= np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return counted


def _rows(file: Path, split: str, classes: Sequence[str], faults: list[Fault]) -> pa.Table:
    """Read one label file as manifest rows, whatever their label; rows that cannot be used become faults."""
    names = ["name", "box", *VOTES]
    table = read_csv(file, names, faults, names)
    table = table.append_column("id", pc.binary_join_element_wise(file.parent.name, table["name"], "/"))
    table = set_aside(table, pc.match_substring_regex(table["name"], WRONG_NAME), "outside_root", ["name"], faults)
    no_box = pc.invert(pc.match_substring_regex(table["box"], BOX))
    table = set_aside(table, no_box, "unusable_box", ["box"], faults)
    countable = reduce(pc.and_, [pc.match_substring_regex(table[name], r"^\d{1,6}$") for name in VOTES])
    table = set_aside(table, pc.invert(countable), "bad_votes", VOTES, faults)
    votes = np.stack([table[name].cast(pa.int64()).to_numpy() for name in VOTES], axis=1)
    labels = np.array([*VOTES, NO_MAJORITY], dtype=object)[majority(votes)]  # index -1 is the last one
    return make_rows(
        {
            "id": table["id"],
            "path": table["id"],
            "label": pa.array(labels, pa.string()),
            "split": pa.array([split] * len(table), pa.string()),
            **_boxes(table["box"]),
            "votes": pa.array(list(shares(votes, classes)), pa.list_(pa.float32())),
        }
    )


def _boxes(texts: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Return corners "(left, top, right, bottom)" as x, y, width, height; the whole picture is no box."""
    corners = pc.extract_regex(texts, BOX)
    left, top, right, bottom = (
        pc.struct_field(corners, name).cast(pa.int32()) for name in ("left", "top", "right", "bottom")
    )
    whole = pc.equal(texts, f"(0, 0, {SIDE}, {SIDE})")
    box = {"x": left, "y": top, "width": pc.subtract(right, left), "height": pc.subtract(bottom, top)}
    return {name: pc.if_else(whole, None, values) for name, values in box.items()}

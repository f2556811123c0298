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
from fer_lightning.data.readers.common import keep_classes, no_picture, read_csv, set_aside
from fer_lightning.data.readers.labels import Labels, Names, chosen_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout

FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
VOTES = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt", "unknown", "not a face")
"""Names of the ten vote counts of a row, in their order."""

NO_MAJORITY = "no majority"
BOX = r"^\(\s*(?P<left>\d{1,6})\s*,\s*(?P<top>\d{1,6})\s*,\s*(?P<right>\d{1,6})\s*,\s*(?P<bottom>\d{1,6})\s*\)$"
SIDE = 48  # every picture of FER2013 is 48 x 48
WRONG_NAME = r"^\.*$|[/\\]|^[A-Za-z]:"
LAYOUT = Layout("ferplus", "FERPlus", FOLDERS["train"], lambda folder: folder.is_folder(FOLDERS["train"]))


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read FERPlus (Barsoum et al. 2016) by its official majority rule, with the votes as shares.

    Args:
        root: the folder that holds FER2013Train and FER2013Valid or FER2013Test, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Returns:
        The manifest, with the annotators' votes.

    Raises:
        UserError: no root, a folder without its label.csv, or an unknown class.
    """
    names = label_names(LAYOUT.title, (*VOTES, NO_MAJORITY), (*(classes or ()), NO_MAJORITY), labels)
    classes = chosen_classes(LAYOUT.title, classes, names.classes)
    folder = LAYOUT.find(root, follow_links)
    files = [(split, _labels(folder, name)) for split, name in FOLDERS.items() if folder.is_folder(name)]
    faults: list[Fault] = []
    tables = [_rows(file, split, names, classes, faults) for split, file in with_progress(files, progress)]
    rows, skipped, left_out = keep_classes(pa.concat_tables(tables), classes)
    if not len(rows):
        raise no_picture(LAYOUT.title, folder, classes, faults)
    return Manifest(
        LAYOUT.option,
        folder.path,
        rows,
        classes,
        skipped,
        tuple(faults),
        follow_links=follow_links,
        annotations=tuple(f"{FOLDERS[split]}/label.csv" for split, _ in files),
        left_out=left_out,
    )


def _labels(folder: Folder, name: str) -> Path:
    file = folder.path / name / "label.csv"
    if not folder.is_file(f"{name}/label.csv"):
        raise UserError(
            f"FERPlus: {file} is missing; take it from Microsoft's FERPlus repository{folder.hint_at_links()}"
        )
    return file


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


def shares(
    votes: NDArray[np.int64], classes: Sequence[str], names: Sequence[str | None] = VOTES
) -> NDArray[np.float32]:
    """Return the votes for some classes as shares that sum to 1; single votes do not count, as in ``majority``.

    Args:
        votes: (N, 10) vote counts, in the order of VOTES.
        classes: C class names; one that no vote is called by gets no votes.
        names: names of the ten columns.

    Returns:
        (N, C); zeros where no class has more than one vote.
    """
    counted = np.zeros((len(votes), len(classes)), np.float32)
    for k, name in enumerate(classes):
        columns = [column for column, other in enumerate(names) if other == name]
        counted[:, k] = _counted(votes[:, columns]).sum(axis=1)
    counted /= np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return counted


def _rows(file: Path, split: str, names: Names, classes: Sequence[str], faults: list[Fault]) -> pa.Table:
    """Read one label file as manifest rows, whatever their label; rows that cannot be used become faults."""
    columns = ["name", "box", *VOTES]
    table = read_csv(file, columns, faults, columns)
    table = table.append_column("id", pc.binary_join_element_wise(file.parent.name, table["name"], "/"))
    table = set_aside(table, pc.match_substring_regex(table["name"], WRONG_NAME), "outside_root", ["name"], faults)
    no_box = pc.invert(pc.match_substring_regex(table["box"], BOX))
    table = set_aside(table, no_box, "unusable_box", ["box"], faults)
    countable = reduce(pc.and_, [pc.match_substring_regex(table[name], r"^\d{1,6}$") for name in VOTES])
    table = set_aside(table, pc.invert(countable), "bad_votes", VOTES, faults)
    votes = np.stack([table[name].cast(pa.int64()).to_numpy() for name in VOTES], axis=1)
    ours = [names.ours[name] for name in (*VOTES, NO_MAJORITY)]
    labels = np.array(ours, dtype=object)[majority(votes)]  # index -1 is the last one
    return make_rows(
        {
            "id": table["id"],
            "path": table["id"],
            "label": pa.array(labels, pa.string()),
            "split": pa.array([split] * len(table), pa.string()),
            **_boxes(table["box"]),
            "votes": pa.array(list(shares(votes, classes, ours)), pa.list_(pa.float32())),
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

"""FERPlus: the faces of FER2013 with ten votes each, in Microsoft's folder layout or as two tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest, make_rows
from fer_lightning.data.readers import fer2013, ferplus_pair
from fer_lightning.data.readers.common import keep_classes, no_picture, set_aside
from fer_lightning.data.readers.labels import Labels, Names, chosen_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout, is_picture
from fer_lightning.data.readers.text_tables import read_csv
from fer_lightning.data.readers.votes import NO_MAJORITY, VOTES, countable, labels_and_shares

FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
BOX = r"^\(\s*(?P<left>\d{1,6})\s*,\s*(?P<top>\d{1,6})\s*,\s*(?P<right>\d{1,6})\s*,\s*(?P<bottom>\d{1,6})\s*\)$"
SIDE = 48  # every picture of FER2013 is 48 x 48
WRONG_NAME = r"^\.*$|[/\\]|^[A-Za-z]:"
LAYOUT = Layout(
    "ferplus",
    "FERPlus",
    f"{FOLDERS['train']} or {ferplus_pair.VOTES_FILE} beside {fer2013.FILES[0]}",
    lambda folder: folder.is_folder(FOLDERS["train"]) or ferplus_pair.pictures_file(folder) is not None,
)


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
        root: the folder that holds FER2013Train and FER2013Valid or FER2013Test, or fer2013.csv and
            fer2013new.csv; or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Returns:
        The manifest, with the annotators' votes.

    Raises:
        UserError: no root, a folder without its label.csv, tables that do not belong together, or an unknown
            class.
    """
    names = label_names(LAYOUT.title, (*VOTES, NO_MAJORITY), (*(classes or ()), NO_MAJORITY), labels)
    classes = chosen_classes(LAYOUT.title, classes, names.classes)
    folder = LAYOUT.find(root, follow_links)
    faults: list[Fault] = []
    embedded = None
    pair = ferplus_pair.pictures_file(folder)
    if pair and not _has_pictures(folder, faults):
        annotations = [pair.name, ferplus_pair.VOTES_FILE]
        tables = [ferplus_pair.rows(file, names, classes, faults) for file in with_progress([pair], progress)]
        embedded = partial(fer2013.pictures, folder.path)
    else:
        files = [(split, _labels(folder, name)) for split, name in FOLDERS.items() if folder.is_folder(name)]
        annotations = [f"{FOLDERS[split]}/label.csv" for split, _ in files]
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
        annotations=tuple(annotations),
        left_out=left_out,
        embedded=embedded,
    )


def _has_pictures(folder: Folder, faults: list[Fault]) -> bool:
    """Return whether there are pictures in the folders; Microsoft's repository has only the votes in them."""
    return any(is_picture(name) for name in folder.files(FOLDERS["train"], faults))


def _labels(folder: Folder, name: str) -> Path:
    file = folder.path / name / "label.csv"
    if not folder.is_file(f"{name}/label.csv"):
        raise UserError(
            f"FERPlus: {file} is missing; take it from Microsoft's FERPlus repository{folder.hint_at_links()}"
        )
    return file


def _rows(file: Path, split: str, names: Names, classes: Sequence[str], faults: list[Fault]) -> pa.Table:
    """Read one label file as manifest rows, whatever their label; rows that cannot be used become faults."""
    columns = ["name", "box", *VOTES]
    table = read_csv(file, columns, faults, columns)
    table = table.append_column("id", pc.binary_join_element_wise(file.parent.name, table["name"], "/"))
    table = set_aside(table, pc.match_substring_regex(table["name"], WRONG_NAME), "outside_root", ["name"], faults)
    no_box = pc.invert(pc.match_substring_regex(table["box"], BOX))
    table = set_aside(table, no_box, "unusable_box", ["box"], faults)
    table = countable(table, faults)
    return make_rows(
        {
            "id": table["id"],
            "path": table["id"],
            "split": pa.array([split] * len(table), pa.string()),
            **_boxes(table["box"]),
            **labels_and_shares(table, names, classes),
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

"""RAF-DB's basic emotions, aligned faces: the authors' copy with one list, or the one with a folder per label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, labels_of, named
from fer_lightning.data.readers.labels import Labels, chosen_classes, coded_classes, label_names, plain
from fer_lightning.data.readers.layouts import Folder, Layout, is_picture
from fer_lightning.data.readers.text_tables import list_rows, read_csv

CODES = dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"), start=1))
LIST = "EmoLabel/list_patition_label.txt"  # sic
LISTS = (LIST, LIST.replace("patition", "partition"), LIST.removeprefix("EmoLabel/"))
ALIGNED = ("Image/aligned/", "aligned/", "Image/", "", "EmoLabel/")
ORIGINAL = ("Image/original/", "original/")
"""Folders in which the authors' pictures of faces, and their whole photographs, may lie."""

CSV = "{split}_labels.csv"
CSV_FOLDERS = ("", "DATASET/", "DATASET/{split}/", "{split}/", "labels/", "EmoLabel/")
FOLDERS = ("DATASET/", "")
"""Folders that may hold train/1 to train/7."""

SPLITS = ("train", "test")
SAMPLED = 20
"""Number of rows by which it is found out where the pictures lie."""


def _list(folder: Folder) -> str | None:
    """Return the list of the authors' copy."""
    return next(filter(folder.is_file, LISTS), None)


def _csv_file(folder: Folder, split: str) -> str | None:
    """Return the table of a split in the copy with folders."""
    names = (f"{above}{CSV}".format(split=split) for above in CSV_FOLDERS)
    return next(filter(folder.is_file, names), None)


def _by_number(folder: Folder) -> str | None:
    """Return the folder of train/1 to train/7: exactly these, as no other set of faces has them."""
    codes = [str(code) for code in CODES]
    trains = (above for above in FOLDERS if folder.is_folder(f"{above}train"))
    return next((above for above in trains if folder.folders(f"{above}train") == codes), None)


LAYOUT = Layout(
    "rafdb",
    "RAF-DB",
    f"{LIST}, train_labels.csv or folders train/1 to train/7",
    lambda folder: (
        _list(folder) is not None
        or any(_csv_file(folder, split) for split in SPLITS)
        or _by_number(folder) is not None
    ),
)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read RAF-DB (Li et al. 2017), single-label subset. Pictures are aligned faces: no boxes.

    Args:
        root: the folder that holds EmoLabel and Image, or DATASET or train with a folder for each label; or its
            parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Raises:
        UserError: no root, a file or column is missing, no usable row, or an unknown class.
    """
    chosen = chosen_classes(LAYOUT.title, classes, coded_classes(CODES, labels))
    folder = LAYOUT.find(root, follow_links)
    faults: list[Fault] = []
    listed = _list(folder)
    copies = with_progress([_from_list(folder, listed) if listed else _from_folders(folder, faults)], progress)
    rows = [row for copy in copies for row in copy]
    names = label_names(LAYOUT.title, labels_of(rows), classes, labels, CODES)
    annotations = [listed] if listed else [file for split in SPLITS if (file := _csv_file(folder, split))]
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, annotations)


def _from_list(folder: Folder, listed: str) -> Iterator[Row | Fault]:
    """Read the authors' copy: lines such as "train_00001.jpg 5", with the split in the name."""
    rows = list_rows(folder.path / listed)
    sampled = list(islice(rows, SAMPLED))
    if sampled and not any(map(str.isdigit, "".join(sampled[0]))):  # a header
        del sampled[0]
    picture = _aligned(folder, [cells[0] for cells in sampled])
    for name, *values in (cells for part in (sampled, rows) for cells in part):
        if values:
            yield _row(picture(name), name, values[0], name.partition("_")[0])
        else:
            yield Fault("broken_line", name, f"{listed}: it has no label")


def _aligned(folder: Folder, names: Sequence[str]) -> Callable[[str], str]:
    """Return the function from a name in the list to the path of the aligned picture.

    Raises:
        UserError: the pictures of the names are there as whole photographs only.
    """

    def way(above: str, ending: str) -> Callable[[str], str]:
        return lambda name: f"{above}{Path(name).stem}{ending}{Path(name).suffix or '.jpg'}"

    ways = [way(above, ending) for above in ALIGNED for ending in ("_aligned", "")]
    for path in ways:
        if any(folder.is_file(path(name)) for name in names):
            return path
    for above in ORIGINAL:
        if any(folder.is_file(f"{above}{name}") for name in names):
            raise UserError(
                f"RAF-DB: {folder.path} has the whole photographs in {above} and no aligned faces; "
                f"unpack RAF-DB's aligned.zip to {folder.path / ALIGNED[0]}"
            )
    return ways[0]


def _from_folders(folder: Folder, faults: list[Fault]) -> Iterator[Row | Fault]:
    """Read the other copy: pictures in the folder of their label, listed in a table per split or not."""
    for split in SPLITS:
        above = next((above for above in FOLDERS if folder.is_folder(f"{above}{split}")), FOLDERS[0])
        file = _csv_file(folder, split)
        if file is None and not folder.is_folder(f"{above}{split}"):
            raise UserError(
                f"RAF-DB: no {CSV.format(split=split)} or folder {split} in {folder.path} or its DATASET"
            )
        listed = _in_table(folder.path / file, faults) if file else _in_folders(folder, f"{above}{split}", faults)
        for name, code in listed:
            yield _row(f"{above}{split}/{plain(code)}/{name}", name, code, split)


def _in_table(file: Path, faults: list[Fault]) -> Iterable[tuple[str, str]]:
    """Return the name and label of each row."""
    table = read_csv(file, ("image", "label"), faults)
    return zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True)


def _in_folders(folder: Folder, split: str, faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """Yield the name and label of each picture."""
    for code in folder.folders(split):
        for name in filter(is_picture, folder.files(f"{split}/{code}", faults)):
            yield name, code


def _row(path: str, name: str, code: str, split: str) -> Row | Fault:
    if not name or set(name) & set("/\\:"):
        return Fault("outside_root", name, "not a plain file name")
    if split not in SPLITS:
        return Fault("unknown_split", path, "its name begins with neither train_ nor test_")
    if set(code) & set("/\\:"):  # it is part of the path
        return Fault("unknown_label", name, f"label {code}")
    return Row(path, code, split)

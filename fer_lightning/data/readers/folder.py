"""A folder a class, below a folder a split or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fer_lightning.core.emotions import known_name
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import (
    Row,
    chosen_classes,
    header,
    manifest,
    our_names,
    read_csv,
    split_folders,
)
from fer_lightning.data.readers.layouts import Layout, files_in, folders_in, is_file, is_folder, is_picture


def _splits(folder: Path) -> dict[str, str]:
    """The folder of each split that is there; without one for training, the root is it."""
    found = split_folders(name for name in folders_in(folder) if is_folder(folder, name))
    return found if "train" in found else {"train": "."}


def _holds(folder: Path, classes: Sequence[str] = ()) -> bool:
    names = folders_in(folder / _splits(folder)["train"])
    return sum(known_name(name, classes) is not None for name in names) > 1


LIST = "labels.csv"
COLUMNS = ("pth", "label")
LAYOUT = Layout("folder", "class-name folders", "folders named after emotions, below train/ or not,", _holds)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read pictures of faces that lie in folders named after their class: train/happy/1.jpg, or happy/1.jpg.

    A mirror of AffectNet has labels.csv beside the folders; a picture of which the two say different is set aside.

    Args:
        root: the folder that holds the splits' folders or the classes'; or the one above it.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (splits read, splits).

    Raises:
        UserError: no root, a folder's name is no known label, no picture, an unknown class.
    """
    folder = replace(LAYOUT, holds=partial(_holds, classes=classes or ())).find(root)
    parts = _splits(folder)
    names = sorted({name for place in parts.values() for name in folders_in(folder / place)})
    labels = our_names(LAYOUT.title, names, classes)
    classes = chosen_classes(LAYOUT.title, classes, labels.values())
    faults: list[Fault] = []
    listed = _listed(folder, faults)
    rows = []
    for done, (split, place) in enumerate(parts.items(), start=1):
        for name in folders_in(folder / place):
            below = name if place == "." else f"{place}/{name}"
            for picture in filter(is_picture, files_in(folder, below, faults)):
                path, told = f"{below}/{picture}", listed.get(f"{name}/{picture}", name)
                if known_name(told, classes) != labels[name]:
                    faults.append(Fault("labels_disagree", path, f"{LIST} says {told[:40]}"))
                else:
                    rows.append(Row(path, labels[name], split))
        if progress:
            progress(done, len(parts))
    return manifest(LAYOUT, folder, rows, classes, faults)


def _listed(root: Path, faults: list[Fault]) -> dict[str, str]:
    """Labels by path, where there is a list of them."""
    file = root / LIST
    if not is_file(root, LIST) or not set(COLUMNS) <= set(names := header(file)):
        return {}
    table = read_csv(file, names, COLUMNS, faults)
    return dict(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))

"""Pictures in one folder per class, which lie in one folder per split or directly in the root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fer_lightning.core.emotions import known_name
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import (
    Row,
    build_manifest,
    chosen_classes,
    our_names,
    split_folders,
)
from fer_lightning.data.readers.layouts import Layout, files_in, folders_in, is_file, is_folder, is_picture
from fer_lightning.data.readers.tables import look_at, read_csv


def _splits(folder: Path) -> dict[str, str]:
    """Return the folder of each split; without one for training, the root is the training split."""
    splits = split_folders(name for name in folders_in(folder) if is_folder(folder, name))
    return splits if "train" in splits else {"train": "."}


def _holds(folder: Path, classes: Sequence[str] = ()) -> bool:
    names = folders_in(folder / _splits(folder)["train"])
    return sum(known_name(name, classes) is not None for name in names) > 1


LIST = "labels.csv"
COLUMNS = ("pth", "label")
LAYOUT = Layout("folder", "class-name folders", "folders named after emotions, below train/ or not,", _holds)


def read(root: str | None, classes: Sequence[str] | None, *, progress: Progress | None = None) -> Manifest:
    """Read pictures of faces that lie in folders named after their class: train/happy/1.jpg, or happy/1.jpg.

    A mirror of AffectNet has labels.csv beside the folders; pictures whose label differs there are set aside.

    Args:
        root: the folder that holds the folders of the splits or of the classes, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        progress: callback that receives (splits read, splits).

    Raises:
        UserError: no root, a folder whose name is no known label, no picture, or an unknown class.
    """
    folder = replace(LAYOUT, holds=partial(_holds, classes=classes or ())).find(root)
    splits = _splits(folder)
    labels = our_names(
        LAYOUT.title, {name for part in splits.values() for name in folders_in(folder / part)}, classes
    )
    classes = chosen_classes(LAYOUT.title, classes, labels.values())
    faults: list[Fault] = []
    listed = _listed(folder, faults)

    def rows() -> Iterator[Row | Fault]:
        for split, part in with_progress(splits.items(), progress):
            for name in folders_in(folder / part):
                below = name if part == "." else f"{part}/{name}"
                for picture in filter(is_picture, files_in(folder, below, faults)):
                    listed_label = listed.get(f"{name}/{picture}", name)
                    if known_name(listed_label, classes) == labels[name]:
                        yield Row(f"{below}/{picture}", labels[name], split)
                    else:
                        detail = f"{LIST} says {listed_label[:40]}"
                        yield Fault("labels_disagree", f"{below}/{picture}", detail)

    return build_manifest(LAYOUT, folder, rows(), classes, faults)


def _listed(root: Path, faults: list[Fault]) -> dict[str, str]:
    """Return the labels that labels.csv gives, by path; none where there is no such file."""
    if not is_file(root, LIST) or not look_at(root / LIST, COLUMNS).has(*COLUMNS):
        return {}
    table = read_csv(root / LIST, COLUMNS, faults)
    return dict(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))

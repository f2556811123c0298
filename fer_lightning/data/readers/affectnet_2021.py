"""AffectNet's release of 2021: numbered pictures of cropped faces, with three small annotation files each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fer_lightning.core.emotions import AFFECTNET_CODES
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, labels_of, named, pooled
from fer_lightning.data.readers.labels import Labels, chosen_classes, coded_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout, one_a_stem

FOLDERS = {"train": "train_set", "val": "val_set"}
ANNOTATIONS = ("exp.npy", "val.npy", "aro.npy")
"""Ends of the names of a picture's annotation files that are read: expression, valence and arousal."""

LAYOUT = Layout(
    "affectnet_2021",
    "AffectNet 2021",
    "train_set/annotations",
    lambda folder: all(folder.is_folder(f"{name}/annotations") for name in FOLDERS.values()),
)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read AffectNet (Mollahosseini et al. 2017) as it is given out since 2021. Pictures are faces: no boxes.

    Args:
        root: the folder that holds train_set and val_set, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (pictures done, pictures).

    Returns:
        The manifest, with valence and arousal where they were rated.

    Raises:
        UserError: no root, no usable picture in it, or an unknown class.
    """
    chosen = chosen_classes(LAYOUT.title, classes, coded_classes(AFFECTNET_CODES, labels))
    folder = LAYOUT.find(root, follow_links)
    faults: list[Fault] = []
    annotations: list[str] = []
    items = [item for split in FOLDERS for item in _items(folder, split, annotations, faults)]
    rows = list(pooled(partial(_row, folder.path), items, progress))
    names = label_names(LAYOUT.title, labels_of(rows), classes, labels, AFFECTNET_CODES)
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, annotations)


def _items(
    folder: Folder, split: str, annotations: list[str], faults: list[Fault]
) -> list[tuple[str, str, set[str]]]:
    """Return each picture's split, name and kinds of annotation; annotations without a picture become faults."""
    pictures = one_a_stem(folder.files(f"{FOLDERS[split]}/images", faults))
    kinds: dict[str, set[str]] = {}
    for name in folder.files(f"{FOLDERS[split]}/annotations", faults):
        number, _, kind = name.rpartition("_")
        kinds.setdefault(number, set()).add(kind)
        if kind in ANNOTATIONS:
            annotations.append(f"{FOLDERS[split]}/annotations/{name}")
    for number in sorted(kinds.keys() - pictures.keys()):
        faults.append(Fault("missing", f"{FOLDERS[split]}/images/{number}.jpg", "it is annotated, but missing"))
    return [(split, name, kinds.get(stem, set())) for stem, name in pictures.items()]


def _row(root: Path, item: tuple[str, str, set[str]]) -> Row | Fault:
    split, name, kinds = item
    path = f"{FOLDERS[split]}/images/{name}"
    if ANNOTATIONS[0] not in kinds:
        return Fault("missing_annotation", path, f"no {Path(name).stem}_{ANNOTATIONS[0]}")
    start = f"{root / FOLDERS[split] / 'annotations' / Path(name).stem}_"
    try:
        code = _number(start + ANNOTATIONS[0])
        ratings = [_number(start + kind) if kind in kinds else -2 for kind in ANNOTATIONS[1:]]
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        return Fault("unreadable_annotation", path, str(error)[:200])
    valence, arousal = (value if abs(value) <= 1 else None for value in ratings)  # -2 stands for not rated
    return Row(path, str(code), split, valence=valence, arousal=arousal)


def _number(file: str) -> float:
    """Return the only number in a file, which may be stored as text; pickles are refused, since they run code."""
    with Path(file).open("rb") as stream:
        return float(str(np.lib.format.read_array(stream, allow_pickle=False).item()))

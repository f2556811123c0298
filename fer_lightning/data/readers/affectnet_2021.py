"""AffectNet's release of 2021: numbered pictures of cropped faces, with three small annotation files each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fer_lightning.core.emotions import AFFECTNET_CODES
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, chosen_classes, pooled
from fer_lightning.data.readers.layouts import Layout, files_in, is_folder, is_picture

FOLDERS = {"train": "train_set", "val": "val_set"}
LAYOUT = Layout(
    "affectnet_2021",
    "AffectNet 2021",
    "train_set/annotations",
    lambda folder: all(is_folder(folder, f"{name}/annotations") for name in FOLDERS.values()),
)


def read(root: str | None, classes: Sequence[str] | None, *, progress: Progress | None = None) -> Manifest:
    """Read AffectNet (Mollahosseini et al. 2017) as it is given out since 2021. Pictures are faces: no boxes.

    Args:
        root: the folder that holds train_set and val_set, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        progress: callback that receives (pictures done, pictures).

    Returns:
        The manifest, with valence and arousal where they were rated.

    Raises:
        UserError: no root, no usable picture in it, or an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, AFFECTNET_CODES.values())
    folder = LAYOUT.find(root)
    faults: list[Fault] = []
    items = [item for split in FOLDERS for item in _items(folder, split, faults)]
    return build_manifest(LAYOUT, folder, pooled(partial(_row, folder), items, progress), classes, faults)


def _items(root: Path, split: str, faults: list[Fault]) -> list[tuple[str, str, set[str]]]:
    """Return each picture's split, name and kinds of annotation; annotations without a picture become faults."""
    pictures = [name for name in files_in(root, f"{FOLDERS[split]}/images", faults) if is_picture(name)]
    kinds: dict[str, set[str]] = {}
    for name in files_in(root, f"{FOLDERS[split]}/annotations", faults):
        number, _, kind = name.rpartition("_")
        kinds.setdefault(number, set()).add(kind)
    for number in sorted(kinds.keys() - {Path(name).stem for name in pictures}):
        faults.append(Fault("missing", f"{FOLDERS[split]}/images/{number}.jpg", "it is annotated, but missing"))
    return [(split, name, kinds.get(Path(name).stem, set())) for name in pictures]


def _row(root: Path, item: tuple[str, str, set[str]]) -> Row | Fault:
    split, name, kinds = item
    path = f"{FOLDERS[split]}/images/{name}"
    if "exp.npy" not in kinds:
        return Fault("missing_annotation", path, f"no {Path(name).stem}_exp.npy")
    start = f"{root / FOLDERS[split] / 'annotations' / Path(name).stem}_"
    try:
        code = _number(f"{start}exp.npy")
        ratings = [_number(start + kind) if kind in kinds else -2 for kind in ("val.npy", "aro.npy")]
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        return Fault("unreadable_annotation", path, str(error)[:200])
    if code not in AFFECTNET_CODES:
        return Fault("unknown_label", path, f"expression {code}")
    valence, arousal = (value if abs(value) <= 1 else None for value in ratings)  # -2 stands for not rated
    return Row(path, AFFECTNET_CODES[int(code)], split, valence=valence, arousal=arousal)


def _number(file: str) -> float:
    """Return the only number in a file, which may be stored as text; pickles are refused, since they run code."""
    with Path(file).open("rb") as stream:
        return float(str(np.lib.format.read_array(stream, allow_pickle=False).item()))

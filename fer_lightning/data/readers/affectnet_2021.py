"""AffectNet's new release (2021): numbered pictures of cropped faces, three small files of annotation each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fer_lightning.core.emotions import AFFECTNET_CODES
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, chosen_classes, manifest, pooled
from fer_lightning.data.readers.layouts import Layout, files_in, is_folder, is_picture

FOLDERS = {"train": "train_set", "val": "val_set"}
LAYOUT = Layout(
    "affectnet_2021",
    "AffectNet 2021",
    "train_set/annotations",
    lambda folder: all(is_folder(folder, f"{name}/annotations") for name in FOLDERS.values()),
)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read AffectNet (Mollahosseini et al. 2017) as it is given out since 2021. Pictures are faces: no boxes.

    Args:
        root: the folder that holds train_set and val_set, or the one above it.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (pictures done, pictures).

    Raises:
        UserError: no root, nothing that can be used in it, an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, AFFECTNET_CODES.values())
    folder = LAYOUT.find(root)
    faults: list[Fault] = []
    rows = []
    items = [item for split in FOLDERS for item in _items(folder, split, faults)]
    for found in pooled(partial(_row, folder), items, progress):
        if isinstance(found, Row):
            rows.append(found)
        else:
            faults.append(found)
    return manifest(LAYOUT, folder, rows, classes, faults)


def _items(root: Path, split: str, faults: list[Fault]) -> list[tuple[str, str, frozenset[str]]]:
    """Each picture's split and name, with the kinds of annotation it has; annotations of none become faults."""
    pictures = [name for name in files_in(root, f"{FOLDERS[split]}/images", faults) if is_picture(name)]
    kinds: dict[str, list[str]] = {}
    for name in files_in(root, f"{FOLDERS[split]}/annotations", faults):
        number, _, kind = name.rpartition("_")
        kinds.setdefault(number, []).append(kind)
    for number in sorted(kinds.keys() - {Path(name).stem for name in pictures}):
        faults.append(Fault("missing", f"{FOLDERS[split]}/images/{number}.jpg", "annotated, but not there"))
    return [(split, name, frozenset(kinds.get(Path(name).stem, ()))) for name in pictures]


def _row(root: Path, item: tuple[str, str, frozenset[str]]) -> Row | Fault:
    split, name, kinds = item
    path = f"{FOLDERS[split]}/images/{name}"
    if "exp.npy" not in kinds:
        return Fault("missing_annotation", path, f"no {Path(name).stem}_exp.npy")
    start = root / FOLDERS[split] / "annotations" / Path(name).stem
    try:
        code = _number(start, "exp.npy")
        feeling = [_number(start, kind) if kind in kinds else None for kind in ("val.npy", "aro.npy")]
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        return Fault("unreadable_annotation", path, str(error)[:200])
    if code not in AFFECTNET_CODES:
        return Fault("unknown_label", path, f"expression {code}")
    valence, arousal = (value if value is not None and abs(value) <= 1 else None for value in feeling)  # -2: none
    return Row(path, AFFECTNET_CODES[int(code)], split, valence=valence, arousal=arousal)


def _number(start: Path, kind: str) -> float:
    """The one number in a file, which may be kept as text. A pickle is code: it is refused."""
    with Path(f"{start}_{kind}").open("rb") as stream:
        return float(str(np.lib.format.read_array(stream, allow_pickle=False).item()))

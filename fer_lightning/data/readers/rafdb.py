"""RAF-DB's basic emotions, aligned faces: the authors' copy with one list, or the one with a folder per label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, chosen_classes, read_csv
from fer_lightning.data.readers.layouts import Layout, is_file

CODES = dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"), start=1))
LIST = "EmoLabel/list_patition_label.txt"  # sic
CSV = "{split}_labels.csv"
SPLITS = ("train", "test")


def _csv_file(folder: Path, split: str) -> Path | None:
    """Return the file of a split in the copy with folders; it lies beside DATASET or in it."""
    names = [f"{above}{CSV.format(split=split)}" for above in ("", "DATASET/")]
    return next((folder / name for name in names if is_file(folder, name)), None)


LAYOUT = Layout(
    "rafdb",
    "RAF-DB",
    f"{LIST} or train_labels.csv",
    lambda folder: is_file(folder, LIST) or any(_csv_file(folder, split) for split in SPLITS),
)


def read(root: str | None, classes: Sequence[str] | None, *, progress: Progress | None = None) -> Manifest:
    """Read RAF-DB (Li et al. 2017), single-label subset. Pictures are aligned faces: no boxes.

    Args:
        root: the folder that holds EmoLabel and Image, or DATASET and train_labels.csv; or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        progress: callback that receives (files read, files).

    Raises:
        UserError: no root, a file or column is missing, no usable row, or an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, list(CODES.values()))
    folder = LAYOUT.find(root)
    faults: list[Fault] = []
    rows = _from_list(folder) if is_file(folder, LIST) else _from_folders(folder, faults)
    copies = with_progress([rows], progress)
    return build_manifest(LAYOUT, folder, (row for copy in copies for row in copy), classes, faults)


def _from_list(folder: Path) -> Iterator[Row | Fault]:
    """Read the authors' copy: lines such as "train_00001.jpg 5", with the split in the name."""
    try:
        lines = (folder / LIST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{folder / LIST} cannot be read: {error.strerror}") from error
    for line in filter(str.strip, lines):
        name, _, code = line.strip().rpartition(" ")
        yield _row(f"Image/aligned/{Path(name).stem}_aligned.jpg", name, code, name.partition("_")[0])


def _from_folders(folder: Path, faults: list[Fault]) -> Iterator[Row | Fault]:
    """Read the other copy: a CSV file per split, and pictures in the folder of their label."""
    for split in SPLITS:
        file = _csv_file(folder, split)
        if file is None:
            raise UserError(f"RAF-DB: no {CSV.format(split=split)} in {folder} or its DATASET")
        table = read_csv(file, ("image", "label"), faults)
        for name, code in zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True):
            yield _row(f"DATASET/{split}/{code.strip()}/{name}", name, code, split)


def _row(path: str, name: str, code: str, split: str) -> Row | Fault:
    label = CODES.get(int(code)) if re.fullmatch(r"\s*\d\s*", code, re.ASCII) else None
    if not name or set(name) & set("/\\:"):
        return Fault("outside_root", name, "not a plain file name")
    if split not in SPLITS:
        return Fault("unknown_split", name, "its name begins with neither train_ nor test_")
    if label is None:
        return Fault("unknown_label", name, f"label {code}")
    return Row(path, label, split)

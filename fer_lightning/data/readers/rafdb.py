"""RAF-DB's basic emotions, aligned faces: the authors' copy with one list, or the one with a folder a label."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, chosen_classes, header, manifest, read_csv, require_columns
from fer_lightning.data.readers.layouts import Layout, is_file

CODES = dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"), start=1))
LIST = "EmoLabel/list_patition_label.txt"  # sic
CSV = "{split}_labels.csv"
SPLITS = ("train", "test")


def _csv_files(folder: Path) -> dict[str, str]:
    """The other copy's two files, which lie beside DATASET or in it."""
    places = [f"{above}{CSV}" for above in ("", "DATASET/")]
    there = {s: [p.format(split=s) for p in places if is_file(folder, p.format(split=s))] for s in SPLITS}
    return {split: files[0] for split, files in there.items() if files}


LAYOUT = Layout(
    "rafdb",
    "RAF-DB",
    f"{LIST} or train_labels.csv",
    lambda folder: is_file(folder, LIST) or bool(_csv_files(folder)),
)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read RAF-DB (Li et al. 2017), single-label subset. Pictures are aligned faces: no boxes.

    Args:
        root: the folder that holds EmoLabel and Image, or DATASET and train_labels.csv; or the one above it.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (files read, files).

    Raises:
        UserError: no root, a file or column is missing, no row can be used, an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, list(CODES.values()))
    folder = LAYOUT.find(root)
    faults: list[Fault] = []
    rows = _from_list(folder, faults) if is_file(folder, LIST) else _from_folders(folder, faults)
    if progress:
        progress(1, 1)
    return manifest(LAYOUT, folder, rows, classes, faults)


def _from_list(folder: Path, faults: list[Fault]) -> list[Row]:
    """The authors' copy: lines "train_00001.jpg 5", the split in the name."""
    try:
        lines = (folder / LIST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{folder / LIST} cannot be read: {error.strerror}") from error
    rows: list[Row] = []
    for line in filter(str.strip, lines):
        name, _, code = line.strip().rpartition(" ")
        stem = Path(name).stem
        _add(rows, faults, f"Image/aligned/{stem}_aligned.jpg", name, code, name.partition("_")[0])
    return rows


def _from_folders(folder: Path, faults: list[Fault]) -> list[Row]:
    """The other copy: a CSV file a split; a picture lies in the folder of its label."""
    files = _csv_files(folder)
    rows: list[Row] = []
    for split in SPLITS:
        if split not in files:
            raise UserError(f"RAF-DB: no {CSV.format(split=split)} in {folder} nor in its DATASET")
        file = folder / files[split]
        names = header(file)
        require_columns(file, names, ("image", "label"))
        table = read_csv(file, names, ("image", "label"), faults)
        for name, code in zip(*(table[column].to_pylist() for column in ("image", "label")), strict=True):
            _add(rows, faults, f"DATASET/{split}/{code.strip()}/{name}", name, code, split)
    return rows


def _add(rows: list[Row], faults: list[Fault], path: str, name: str, code: str, split: str) -> None:
    label = CODES.get(int(code)) if re.fullmatch(r"\s*\d\s*", code, re.ASCII) else None
    if not name or set(name) & set("/\\:"):
        faults.append(Fault("outside_root", name, "not a plain file name"))
    elif split not in SPLITS:
        faults.append(Fault("unknown_split", name, "its name begins with neither train_ nor test_"))
    elif label is None:
        faults.append(Fault("unknown_label", name, f"label {code}"))
    else:
        rows.append(Row(path, label, split))

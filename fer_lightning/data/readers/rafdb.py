"""RAF-DB's basic emotions, aligned faces: the authors' copy with one list, or the one with a folder per label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, labels_of, named, read_csv
from fer_lightning.data.readers.labels import Labels, chosen_classes, coded_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout

CODES = dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"), start=1))
LIST = "EmoLabel/list_patition_label.txt"  # sic
CSV = "{split}_labels.csv"
SPLITS = ("train", "test")


def _csv_file(folder: Folder, split: str) -> str | None:
    """Return the file of a split in the copy with folders; it lies beside DATASET or in it."""
    names = [f"{above}{CSV.format(split=split)}" for above in ("", "DATASET/")]
    return next(filter(folder.is_file, names), None)


LAYOUT = Layout(
    "rafdb",
    "RAF-DB",
    f"{LIST} or train_labels.csv",
    lambda folder: folder.is_file(LIST) or any(_csv_file(folder, split) for split in SPLITS),
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
        root: the folder that holds EmoLabel and Image, or DATASET and train_labels.csv; or its parent.
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
    listed = folder.is_file(LIST)
    copies = with_progress([_from_list(folder.path) if listed else _from_folders(folder, faults)], progress)
    rows = [row for copy in copies for row in copy]
    names = label_names(LAYOUT.title, labels_of(rows), classes, labels, CODES)
    annotations = [LIST] if listed else [file for split in SPLITS if (file := _csv_file(folder, split))]
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, annotations)


def _from_list(folder: Path) -> Iterator[Row | Fault]:
    """Read the authors' copy: lines such as "train_00001.jpg 5", with the split in the name."""
    try:
        lines = (folder / LIST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{folder / LIST} cannot be read: {error.strerror}") from error
    for line in filter(str.strip, lines):
        name, _, code = line.strip().rpartition(" ")
        yield _row(f"Image/aligned/{Path(name).stem}_aligned.jpg", name, code, name.partition("_")[0])


def _from_folders(folder: Folder, faults: list[Fault]) -> Iterator[Row | Fault]:
    """Read the other copy: a CSV file per split, and pictures in the folder of their label."""
    for split in SPLITS:
        file = _csv_file(folder, split)
        if file is None:
            raise UserError(f"RAF-DB: no {CSV.format(split=split)} in {folder.path} or its DATASET")
        table = read_csv(folder.path / file, ("image", "label"), faults)
        for name, code in zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True):
            yield _row(f"DATASET/{split}/{code.strip()}/{name}", name, code, split)


def _row(path: str, name: str, code: str, split: str) -> Row | Fault:
    if not name or set(name) & set("/\\:"):
        return Fault("outside_root", name, "not a plain file name")
    if split not in SPLITS:
        return Fault("unknown_split", path, "its name begins with neither train_ nor test_")
    if set(code) & set("/\\:"):  # it is part of the path
        return Fault("unknown_label", name, f"label {code}")
    return Row(path, code, split)

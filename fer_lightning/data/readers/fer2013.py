"""FER2013 as tables: an emotion, a picture as 48 x 48 numbers, and the part that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, labels_of, named, numbered, split_of
from fer_lightning.data.readers.labels import Labels, chosen_classes, coded_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout
from fer_lightning.data.readers.text_tables import has_columns, look_at, stream_csv

FILES = ("fer2013.csv", "icml_face_data.csv")
"""Files with all parts of the set."""

PARTS = {"train": "train.csv", "test": "test.csv"}
"""Files of Kaggle's competition, the second of which has no labels."""

CODES = dict(enumerate(("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")))
"""Names of the labels."""

SIDE = 48
COLUMNS = ("emotion", "Usage", "pixels")


def _files(folder: Folder) -> dict[str, Path]:
    """Return the tables to read, each with the split of its rows where it has no column ``Usage``."""
    if whole := next((folder.path / name for name in FILES if folder.is_file(name)), None):
        return {"train": whole}
    files = {split: folder.path / name for split, name in PARTS.items() if folder.is_file(name)}
    return files if "train" in files and has_columns(files["train"], ("emotion", "pixels")) else {}


LAYOUT = Layout("fer2013", "FER2013", f"{FILES[0]} or {PARTS['train']}", lambda folder: bool(_files(folder)))


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read FER2013 (Goodfellow et al. 2013); its pictures stay in the CSV file until they are prepared.

    Args:
        root: the folder that holds fer2013.csv or icml_face_data.csv, or Kaggle's train.csv; or its parent. A
            table without the column Usage belongs to the training part, but for test.csv.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (files read, files).

    Raises:
        UserError: no root, a column is missing, no usable row, or an unknown class.
    """
    chosen = chosen_classes(LAYOUT.title, classes, coded_classes(CODES, labels))
    folder = LAYOUT.find(root, follow_links)
    files = _files(folder)
    faults: list[Fault] = []
    parts = with_progress(files.items(), progress)
    rows = [row for split, file in parts for row in _rows(file, split, faults)]
    names = label_names(LAYOUT.title, labels_of(rows), classes, labels, CODES)
    annotations = [file.name for file in files.values()]
    embedded = partial(pictures, folder.path)
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, annotations, embedded)


def _rows(file: Path, split: str, faults: list[Fault]) -> Iterator[Row | Fault]:
    """Yield the rows of a table; those of a table without ``Usage`` belong to ``split``."""
    table = look_at(file, COLUMNS)
    if split == "test" and not table.has("emotion"):
        yield Fault("missing_annotation", file.name, "it has no column emotion: its pictures have no labels")
        return
    columns = [name for name in COLUMNS if name != "Usage" or table.has("Usage")]
    number = 0
    for batch in stream_csv(file, columns, faults):
        sound = are_pictures(batch["pixels"]).to_pylist()
        usages = batch["Usage"].to_pylist() if "Usage" in columns else [split] * len(sound)
        for code, usage, is_sound in zip(batch["emotion"].to_pylist(), usages, sound, strict=True):
            yield _row(f"{file.name}#{number}", code.strip(), usage, is_sound)
            number += 1


def _row(path: str, code: str, usage: str, sound: bool) -> Row | Fault:
    split = split_of(usage)
    if split is None:
        return Fault("unknown_split", path, f"Usage {usage}")
    if not sound:
        return Fault("unreadable", path, f"pixels are not {SIDE} x {SIDE} numbers of 0 to 255")
    return Row(path, code, split)


def are_pictures(texts: pa.Array) -> pa.Array:
    """Return whether each text holds as many grey values of 0 to 255 as a picture has."""
    grey = r"(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])"
    spaced = rf"^{grey}( {grey})*$"
    numbers = pc.match_substring_regex(texts, spaced)
    if not pc.all(numbers).as_py():  # tabs or several spaces between them, for all we know
        texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"\s+", " ")
        numbers = pc.match_substring_regex(texts, spaced)
    return pc.and_(numbers, pc.equal(pc.count_substring(texts, " "), SIDE**2 - 1))


def pictures(folder: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """Yield the pictures of some rows as PGM files: a short header, then the grey values."""

    def texts(file: str) -> Iterator[pa.Array]:
        return (batch["pixels"] for batch in stream_csv(folder / file, ("pixels",), []))

    return (b"P5 %d %d 255\n" % (SIDE, SIDE) + bytes(map(int, text.split())) for text in numbered(paths, texts))

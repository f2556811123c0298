"""FER2013 as one CSV file: an emotion, a picture as 48 x 48 numbers, and the part that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import (
    Row,
    build_manifest,
    labels_of,
    named,
    numbered,
    split_of,
    stream_csv,
)
from fer_lightning.data.readers.labels import Labels, chosen_classes, coded_classes, label_names
from fer_lightning.data.readers.layouts import Layout

FILES = ("fer2013.csv", "icml_face_data.csv")
CODES = dict(enumerate(("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")))
"""Names of the labels."""

SIDE = 48
COLUMNS = ("emotion", "Usage", "pixels")
LAYOUT = Layout("fer2013", "FER2013", FILES[0], lambda folder: any(map(folder.is_file, FILES)))


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
        root: the folder that holds fer2013.csv or icml_face_data.csv, or its parent.
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
    file = next(folder.path / name for name in FILES if folder.is_file(name))
    faults: list[Fault] = []
    rows = [row for path in with_progress([file], progress) for row in _rows(path, faults)]
    names = label_names(LAYOUT.title, labels_of(rows), classes, labels, CODES)
    pictures = partial(_pictures, folder.path)
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, [file.name], pictures)


def _rows(file: Path, faults: list[Fault]) -> Iterator[Row | Fault]:
    number = 0
    for batch in stream_csv(file, COLUMNS, faults):
        columns = batch["emotion"], batch["Usage"], _are_pictures(batch["pixels"])
        for code, usage, sound in zip(*(column.to_pylist() for column in columns), strict=True):
            yield _row(f"{file.name}#{number}", code.strip(), usage, sound)
            number += 1


def _row(path: str, code: str, usage: str, sound: bool) -> Row | Fault:
    split = split_of(usage)
    if split is None:
        return Fault("unknown_split", path, f"Usage {usage}")
    if not sound:
        return Fault("unreadable", path, f"pixels are not {SIDE} x {SIDE} numbers of 0 to 255")
    return Row(path, code, split)


def _are_pictures(texts: pa.Array) -> pa.Array:
    """Return whether each text holds as many grey values of 0 to 255 as a picture has."""
    grey = r"(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])"
    numbers = pc.match_substring_regex(texts, rf"^\s*{grey}(\s+{grey})*\s*$")
    return pc.and_(numbers, pc.equal(pc.count_substring_regex(texts, r"\d+"), SIDE**2))


def _pictures(folder: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """Yield the pictures of some rows as PGM files: a short header, then the grey values."""

    def texts(file: str) -> Iterator[pa.Array]:
        return (batch["pixels"] for batch in stream_csv(folder / file, COLUMNS, []))

    return (b"P5 %d %d 255\n" % (SIDE, SIDE) + bytes(map(int, text.split())) for text in numbered(paths, texts))

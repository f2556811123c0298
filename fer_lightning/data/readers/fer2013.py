"""FER2013 as one CSV file: emotion, the picture as 48 x 48 numbers, and which part it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import (
    Row,
    chosen_classes,
    header,
    manifest,
    numbered,
    require_columns,
    split_of,
    stream_csv,
)
from fer_lightning.data.readers.layouts import Layout, is_file

FILES = ("fer2013.csv", "icml_face_data.csv")
EMOTIONS = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""What the numbers 0 to 6 stand for."""
SIDE = 48
COLUMNS = ("emotion", "Usage", "pixels")
LAYOUT = Layout("fer2013", "FER2013", FILES[0], lambda folder: any(is_file(folder, name) for name in FILES))


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read FER2013 (Goodfellow et al. 2013); its pictures stay in the CSV file until they are prepared.

    Args:
        root: the folder that holds fer2013.csv or icml_face_data.csv, or the one above it.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (files read, files).

    Raises:
        UserError: no root, a column is missing, no row can be used, an unknown class.
    """
    classes = chosen_classes(LAYOUT.title, classes, EMOTIONS)
    folder = LAYOUT.find(root)
    file = next(name for name in FILES if is_file(folder, name))
    faults: list[Fault] = []
    rows = []
    number = 0
    for batch in _stream(folder, faults, file):
        sound = _are_pictures(batch["pixels"]).to_pylist()
        codes, usages = batch["emotion"].to_pylist(), batch["Usage"].to_pylist()
        for row in zip(codes, usages, sound, strict=True):
            found = _row(f"{file}#{number}", *row)
            number += 1
            if isinstance(found, Row):
                rows.append(found)
            else:
                faults.append(found)
    if progress:
        progress(1, 1)
    return manifest(LAYOUT, folder, rows, classes, faults, partial(_pictures, folder))


def _stream(folder: Path, faults: list[Fault], file: str) -> Iterator[pa.RecordBatch]:
    names = header(folder / file)
    require_columns(folder / file, names, COLUMNS)
    return stream_csv(folder / file, names, COLUMNS, faults)


def _row(path: str, code: str, usage: str, sound: bool) -> Row | Fault:
    split = split_of(usage)
    if split is None:
        return Fault("unknown_split", path, f"Usage {usage}")
    if code.strip() not in (known := [str(code) for code in range(len(EMOTIONS))]):
        return Fault("unknown_label", path, f"emotion {code}")
    if not sound:
        return Fault("unreadable", path, f"pixels are not {SIDE} x {SIDE} numbers of 0 to 255")
    return Row(path, EMOTIONS[known.index(code.strip())], split)


def _are_pictures(texts: pa.Array) -> pa.Array:
    grey = r"(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])"
    numbers = pc.match_substring_regex(texts, rf"^\s*{grey}(\s+{grey})*\s*$")
    return pc.and_(numbers, pc.equal(pc.count_substring_regex(texts, r"\d+"), SIDE**2))


def _pictures(folder: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """Some rows' pictures in the simplest format there is (PGM: a short header, then the grey values)."""
    chunks = partial(_texts, folder)
    return (b"P5 %d %d 255\n" % (SIDE, SIDE) + bytes(map(int, text.split())) for text in numbered(paths, chunks))


def _texts(folder: Path, file: str) -> Iterator[pa.Array]:
    return (batch["pixels"] for batch in _stream(folder, [], file))

"""What a user wants predicted: pictures, folders, patterns, videos and tables of faces, one picture at a time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from fer_lightning.core.errors import UserError, in_words
from fer_lightning.core.files import user_path
from fer_lightning.data.manifest import Fault
from fer_lightning.data.readers.layouts import PICTURES
from fer_lightning.data.readers.text_tables import look_at, stream_csv
from fer_lightning.data.store.crop import Pixels
from fer_lightning.inference.pictures import read

VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"),
    *(".ogv", ".mjpeg", ".mjpg"),
)
"""Endings of videos' names."""

TABLES = (".csv", ".tsv")
COLUMNS = ("path", "x", "y", "w", "h")

_ENOUGH = 0.9
"""Share of the frames that a video's header states from which on all of it was read; headers are estimates."""


class Picture(NamedTuple):
    """A picture or a frame.

    Attributes:
        source: its path.
        number: number of the file among all, from 1.
        pixels: (H, W, 3) of BGR; None: unreadable.
        fault: what is wrong with it; empty: nothing.
        frame: number of the frame in its video, from 0; None: it is a picture.
        time: of the frame in seconds.
        box: x, y, width, height of the face, of a table's row.
    """

    source: str
    number: int
    pixels: Pixels | None
    fault: str = ""
    frame: int | None = None
    time: float | None = None
    box: tuple[float, float, float, float] | None = None


class Sources:
    """The pictures of files, folders, patterns, videos and tables, each read when its turn comes.

    Args:
        words: paths and patterns.
        every: take each n-th frame of a video, the first one among them.

    Attributes:
        total: number of pictures and frames; an estimate where there are videos.
        any_without_box: whether there is a picture whose faces are to be found; else tables have the boxes of all.

    Raises:
        UserError: there is no such file, a folder or pattern leads to no picture, or a table lacks a column.
    """

    def __init__(self, words: Sequence[str], every: int = 1) -> None:
        self.every = every
        self.parts: list[tuple[Path, ...]] = [_files(word) for word in words]
        for path in (path for part in self.parts for path in part if path.suffix.lower() in TABLES):
            _require_columns(path)
        self.total, self.any_without_box = 0, False
        for path in self._paths():
            self.total += _count(path, every)
            self.any_without_box = self.any_without_box or not _all_boxed(path)
        if not self.total:
            raise UserError(
                f"{' '.join(words)}: no pictures or videos; their endings are {_some(PICTURES + VIDEOS)}"
            )

    def _paths(self) -> Iterator[Path]:
        for part in self.parts:
            for path in part:
                yield from _below(path) if path.is_dir() else (path,)

    def __iter__(self) -> Iterator[Picture]:
        """Yield every picture and frame, in order."""
        number = 0
        for path in self._paths():
            ending = path.suffix.lower()
            if ending in TABLES:
                for picture in _rows(path, number):
                    number = picture.number
                    yield picture
                continue
            number += 1
            if ending in VIDEOS:
                yield from _frames(path, number, self.every)
            else:
                yield _picture(path, number)


def _files(word: str) -> tuple[Path, ...]:
    """Return the files and folders that a word leads to."""
    path = user_path(word)
    if path.exists():
        return (path,)
    if glob.has_magic(word):
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  (Path.glob knows no absolute patterns)
        if not found:
            raise UserError(f"{word}: no file has such a name")
        return tuple(Path(name) for name in found)
    raise UserError(f"{word}: no such file or folder")


def _below(folder: Path) -> Iterator[Path]:
    """Yield the pictures and videos in a folder and those below, in the order of their names."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(PICTURES + VIDEOS) and not name.startswith("."):
                yield Path(above) / name


def _some(endings: Sequence[str]) -> str:
    return ", ".join(endings)


def _require_columns(table: Path) -> None:
    look_at(table, COLUMNS).positions(COLUMNS if _has_boxes(table) else COLUMNS[:1])


def _has_boxes(path: Path) -> bool:
    """Return whether a file is a table with a column of boxes."""
    return path.suffix.lower() in TABLES and any(look_at(path, COLUMNS).has(name) for name in COLUMNS[1:])


def _all_boxed(path: Path) -> bool:
    """Return whether a file is a table with a box in every row."""
    if not _has_boxes(path):
        return False
    batches = stream_csv(path, COLUMNS, [])
    return all(any((cell or "").strip() for cell in cells) for batch in batches for cells in _boxes(batch))


def _boxes(batch: pa.RecordBatch) -> Iterator[tuple[str | None, ...]]:
    return zip(*(batch[name].to_pylist() for name in COLUMNS[1:]), strict=True)


def _count(path: Path, every: int) -> int:
    """Return the number of pictures in a file, for the progress: that of a video's frames is an estimate."""
    ending = path.suffix.lower()
    if ending in TABLES:
        return sum(batch.num_rows for batch in stream_csv(path, COLUMNS[:1], []))
    if ending not in VIDEOS:
        return 1
    return max(1, -(-_frames_stated(cv2.VideoCapture(str(path))) // every))


def _frames_stated(video: cv2.VideoCapture) -> int:
    return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))


def _picture(path: Path, number: int, box: tuple[float, float, float, float] | None = None) -> Picture:
    """Return a picture from its file, or what is wrong with it."""
    try:
        return Picture(str(path), number, read(path, ""), box=box)
    except UserError as error:
        return Picture(str(path), number, None, str(error).removeprefix(": "))


def _frames(path: Path, number: int, every: int) -> Iterator[Picture]:
    """Yield frames of a video with the times that it gives them."""
    video = cv2.VideoCapture(str(path))
    try:
        frame, stated = 0, _frames_stated(video)
        while video.grab():
            time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if frame % every == 0:
                done, pixels = video.retrieve()
                if done:
                    yield Picture(str(path), number, np.asarray(pixels, np.uint8), "", frame, time)
                else:
                    yield Picture(str(path), number, None, "the frame cannot be decoded", frame, time)
            frame += 1
    except cv2.error as error:
        yield Picture(str(path), number, None, f"the video breaks off: {in_words(error)[:200]}")
        return
    finally:
        video.release()
    if not frame:
        yield Picture(str(path), number, None, "not a video, broken, or of a kind that OpenCV cannot decode")
    elif frame < _ENOUGH * stated:
        yield Picture(str(path), number, None, f"the video breaks off: {frame} of {stated} frames can be read")


def _rows(table: Path, number: int) -> Iterator[Picture]:
    """Yield the pictures of a table's rows; paths are relative to its folder."""
    columns = COLUMNS if _has_boxes(table) else COLUMNS[:1]
    faults: list[Fault] = []
    for batch in stream_csv(table, columns, faults):
        for row in batch.to_pylist():
            number += 1
            yield _of_row(table, number, row)
        for fault in faults:
            number += 1
            yield Picture(str(table), number, None, fault.detail)
        faults.clear()


def _of_row(table: Path, number: int, row: dict[str, str | None]) -> Picture:
    """Return the picture of a table's row; one without a path or with half a box is unreadable."""
    path, *cells = ((row.get(name) or "").strip() for name in COLUMNS)
    if not path:
        return Picture(str(table), number, None, "a row without a path")
    file = table.parent / user_path(path)
    if not any(cells):
        return _picture(file, number)
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        return Picture(str(file), number, None, f"its box {', '.join(cells)} is not x, y, w, h in numbers")
    return _picture(file, number, box=(x, y, width, height))

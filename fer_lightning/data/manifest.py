"""Manifest of a data set: the annotations that a reader has read, one row a face, labels by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.data.picture_files import files_hash

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # unique within the data set, stable over machines
        pa.field("path", pa.string(), nullable=False),  # of the picture, relative to the root, with "/"
        pa.field("label", pa.string(), nullable=False),  # a class name
        pa.field("split", pa.string(), nullable=False),  # "train", "val" or "test"
        pa.field("x", pa.int32()),  # the face's box in pixels; null: the whole picture is the face
        pa.field("y", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("identity", pa.string()),  # who is pictured, where the set knows it
        pa.field("valence", pa.float32()),  # -1..1, where the set has it
        pa.field("arousal", pa.float32()),
        pa.field("votes", pa.list_(pa.float32())),  # shares (C,) of the annotators' votes, in the classes' order
        pa.field("attributes", pa.string()),  # a JSON object of what recall is told by, such as {"sex": "f"}
    ]
)
"""Columns of Manifest.rows."""


def make_rows(columns: Mapping[str, Any]) -> pa.Table:
    """Return a table with the columns of SCHEMA; nullable ones that are not given are null.

    Args:
        columns: Arrays of one length by name; ``id``, ``path``, ``label`` and ``split`` are needed.
    """
    length = len(columns["id"])
    arrays = [columns.get(name) for name in SCHEMA.names]
    filled = [pa.nulls(length) if array is None else array for array in arrays]
    named = zip(filled, SCHEMA, strict=True)
    return pa.table([pc.cast(array, column.type) for array, column in named], schema=SCHEMA)


def inside(root: Path, path: Path) -> bool:
    """Return whether a path lies below the root once all ".." and symbolic links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


FOLLOW_LINKS = "data.follow_links=true"
LINK_OUT = f"a link leads out of the data set's folder; {FOLLOW_LINKS} follows links"


@dataclass(frozen=True)
class Fault:
    """Fault of one row or file, which is set aside."""

    kind: str
    path: str
    detail: str

    def __str__(self) -> str:
        """Return the fault in words."""
        return f"{self.path or 'a row'}: {self.kind}, {self.detail}"


@dataclass(frozen=True)
class HeldOut:
    """Choice of the rows to test on, out of all rows of a set; faces of one person and near copies stay together.

    Attributes:
        share: Share of each class to hold out, drawn by a hash of the paths; None: a fold is held out.
        folds: Number of folds.
        fold: Number of the fold to hold out.
        seed: Seed of the folds.
    """

    share: float | None = None
    folds: int = 0
    fold: int = 0
    seed: int = 0

    @property
    def part(self) -> float:
        """Return about which part of the rows is held out."""
        return 1 / self.folds if self.share is None else self.share

    def __str__(self) -> str:
        return f"fold {self.fold} of {self.folds}" if self.share is None else f"{self.share:.0%}"


def links_hint(number: int) -> str:
    """Return an end of a message that says how many links are not followed, and how to follow them."""
    if number == 0:
        return ""
    links, are = ("1 link leads", "is") if number == 1 else (f"{number:,} links lead", "are")
    return f"; {links} out of the data set's folder and {are} not followed: say {FOLLOW_LINKS}"


LeftOut = dict[str, dict[str, int]]
"""Rows left out on purpose, by split and reason."""


def require_every_class(counts: Mapping[str, Mapping[str, int]], name: str, faults: Sequence[Fault]) -> None:
    """Raise a UserError where ``counts``, images by split and class, has a class without an image."""
    for split, by_class in counts.items():
        for label, images in by_class.items():
            if images == 0:
                raise UserError(
                    f"{name}: class {label!r} has no {'training' if split == 'train' else 'test'} image"
                    f"{_why_empty(faults)}; leave it out of the classes or mend the data"
                )


def _why_empty(faults: Sequence[Fault]) -> str:
    """Return what a class may lack its images for: rows that were set aside, unknown labels, links."""
    last = f" ({len(faults):,} rows were set aside, the last: {faults[-1]})" if faults else ""
    unknown = dict.fromkeys(f"; {fault}" for fault in faults[:-1] if fault.kind == "unknown_label")
    return last + "".join(list(unknown)[:3]) + links_hint(sum(fault.detail == LINK_OUT for fault in faults))


@dataclass(frozen=True)
class Manifest:
    """Annotations of a data set; no picture has been opened yet.

    Attributes:
        name: Name of the data set.
        root: Folder that ``path`` is relative to. It is never written to.
        rows: One row a face, columns as in SCHEMA, in the order of the annotation files.
        classes: Class names in the classifier's order.
        skipped: Rows left out on purpose, by split and reason (labels outside ``classes``, no majority, ...).
        faults: Rows left out because something is wrong with them.
        tested_on: Split of the set that is the test set, or the share held out, see ``with_test_split``; None
            before that is chosen, when the rows have the splits that the set itself has.
        redistributable: Whether its pictures may be shown in a report or uploaded.
        follow_links: Whether links that lead out of the root are followed.
        folder: Folder that the layout was found in, which holds the root; None: the root.
        annotations: Annotation files that were read, relative to ``folder``.
        left_out: Pictures that the annotations name and that need not be rows, relative to the root: those of rows
            that are counted in ``skipped``, and of splits that are not used.
        embedded: Function that returns the pictures' bytes for the ``path`` of some rows, in that order, where
            they are no files of their own; rows are asked for in the manifest's order, one split after the other.
            Such a path is FILE#NUMBER.
        held_out: Choice of the rows that become the test set once the faces are prepared; None: the split "test".
        to_train: Whether it is to be trained on; if not, all rows are test rows, and a class may have none.
    """

    name: str
    root: Path
    rows: pa.Table
    classes: tuple[str, ...]
    skipped: LeftOut = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    tested_on: str | None = None
    redistributable: bool = False
    follow_links: bool = False
    folder: Path | None = None
    annotations: tuple[str, ...] = ()
    left_out: Sequence[str] = ()
    embedded: Callable[[Sequence[str]], Iterator[bytes]] | None = None
    held_out: HeldOut | None = None
    to_train: bool = True

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that must have faces, to be trained on of every class."""
        if self.held_out:
            return ("train",)
        return ("train", "test") if self.to_train else ("test",)

    @cached_property
    def files_hash(self) -> str:
        """Return a hash of the sizes and times of the pictures' files, looked at once; see ``files_hash``."""
        paths = pc.unique(self.rows["path"])
        if self.embedded:
            paths = pc.unique(pc.replace_substring_regex(paths, r"#\d+$", ""))
        return files_hash(self.root, paths.to_pylist())

    @property
    def links_within(self) -> Path | None:
        """Return the folder that links to pictures may not lead out of; None: links are followed."""
        return None if self.follow_links else self.root

    def pictures(self, paths: Sequence[str]) -> Iterator[Path | bytes]:
        """Return the paths of some rows' pictures, or their bytes where they lie inside other files."""
        return self.embedded(paths) if self.embedded else (self.root / path for path in paths)

    def counts(self, split: str) -> dict[str, int]:
        """Return the number of rows of a split by class name, in the order of ``classes``."""
        labels = self.rows.filter(pc.equal(self.rows["split"], split))["label"]
        counts = {row["values"]: row["counts"] for row in labels.value_counts().to_pylist()}
        return {name: counts.get(name, 0) for name in self.classes}

    def check_names(self, splits: Sequence[str]) -> None:
        """Raise a ValueError where a label or split is unknown: a reader's fault that ends in wrong labels."""
        for column, known in (("split", splits), ("label", self.classes)):
            if unknown := set(pc.unique(self.rows[column]).to_pylist()) - set(known):
                message = f"the unknown {column} {min(unknown)!r}, not {', '.join(known)}"
                raise ValueError(f"the manifest of {self.name} has {message}")

    def check(self) -> None:
        """Check that it can be trained on, or at least tested on; no picture is opened.

        Raises:
            ValueError: See ``check_names``; the splits are those of ``splits``.
            UserError: See ``require_images``.
        """
        self.check_names(self.splits)
        self.require_images({split: self.counts(split) for split in self.splits}, self.faults)

    def require_images(self, counts: Mapping[str, Mapping[str, int]], faults: Sequence[Fault]) -> None:
        """Require an image of every class in all of ``splits`` or, without anything to train on, one image.

        Args:
            counts: Images by split and class.
            faults: Rows and pictures that were set aside.

        Raises:
            UserError: There are too few.
        """
        needed = {split: counts[split] for split in self.splits}
        if self.to_train:
            require_every_class(needed, self.name, faults)
        elif not any(any(by_class.values()) for by_class in needed.values()):
            last = f" ({len(faults)} rows were set aside, the last: {faults[-1]})" if faults else ""
            raise UserError(f"{self.name}: no test image of {', '.join(self.classes)} in {self.root}{last}")

    def hash(self) -> str:
        """Return the SHA-256 of everything that decides what is trained on; the root is not part of it."""
        about = [self.name, list(self.classes), self.rows.num_rows]
        about += [] if self.to_train else [self.tested_on]  # equal rows may be one split, or the whole set
        digest = hashlib.sha256(content_hash(about).encode())
        for name in SCHEMA.names:
            if self.rows[name].null_count < self.rows.num_rows:
                digest.update(name.encode())
                for part in _canonical(self.rows[name]):
                    digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def _canonical(column: pa.ChunkedArray) -> list[np.ndarray[Any, Any]]:
    """Return a column's content as arrays that do not depend on how Arrow chunks or pads it."""
    valid = column.is_valid().to_numpy()
    if pa.types.is_list(column.type):
        return [valid, *_canonical(pc.list_value_length(column)), *_canonical(pc.list_flatten(column))]
    if not pa.types.is_string(column.type):
        return [valid, column.fill_null(0).to_numpy()]
    text = column.fill_null("")
    return [valid, pc.binary_length(text).to_numpy(), *(_bytes(chunk) for chunk in text.chunks if len(chunk))]


def _bytes(text: pa.StringArray) -> np.ndarray[Any, Any]:
    """Return the joined UTF-8 of some texts without a copy: Python strings of a million rows would be slow."""
    _, offsets, content = text.buffers()
    ends = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(b"" if content is None else content, np.uint8)[ends[0] : ends[-1]]

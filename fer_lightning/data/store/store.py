"""The prepared store: cropped, resized faces in memory-mapped Arrow files, several shards per split."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.data.store.meta import META, SPLITS, StoreMeta

GROUPS = "train-groups.npy"


ATTRIBUTES = "attributes"


def schema(classes: tuple[str, ...], *, attributes: bool = False) -> pa.Schema:
    """Return the columns of a shard; a label is an index into ``classes``, stored as the file's dictionary.

    Args:
        classes: class names in the classifier's order.
        attributes: whether there is a column with the attributes that recall is told by.
    """
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("label", pa.dictionary(pa.int16(), pa.string()), nullable=False),
            pa.field("image", pa.binary(), nullable=False),  # in the store's codec
            pa.field("pixels", pa.string(), nullable=False),  # equal: pixel-identical before resizing
            pa.field("identity", pa.string()),
            pa.field("valence", pa.float32()),
            pa.field("arousal", pa.float32()),
            pa.field("votes", pa.list_(pa.float32())),
            *([pa.field(ATTRIBUTES, pa.string())] if attributes else []),
        ],
        metadata={"classes": json.dumps(classes)},
    )


def read_table(file: Path) -> pa.Table:
    """Return an Arrow file's columns as views of the memory-mapped file."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def shard_name(split: str, number: int) -> str:
    """Return the name of a shard's file."""
    return f"{split}-{number:05d}.arrow"


@dataclass(frozen=True, eq=False)
class StoreSplit:
    """One split of a store, memory-mapped; a copy for another process opens the files itself.

    Args:
        folder: folder of the store.
        name: name of the split in the files' names.
        shards: number of its files.
        size: side of the pictures in pixels.
        codec: "jpeg", "png" or "raw".
        rows: numbers (N,) of the images in the files, ascending; None: all.
    """

    folder: Path
    name: str
    shards: int
    size: int
    codec: str
    rows: NDArray[np.int64] | None = None

    def __reduce__(self) -> tuple[Callable[..., StoreSplit], tuple[Any, ...]]:
        return StoreSplit, tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return int(self._table.num_rows if self.rows is None else len(self.rows))

    @cached_property
    def ids(self) -> list[str]:
        """Return the manifest's ids (N,)."""
        return [str(value) for value in self._column("id").to_pylist()]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Return indices (N,) into the store's classes."""
        parts = [chunk.indices.to_numpy() for chunk in self._column("label").chunks]
        return np.concatenate([*parts, np.zeros(0)]).astype(np.int64)

    @property
    def pixels(self) -> pa.ChunkedArray:
        """Return digests (N,) that are equal for images that were pixel-identical before they were resized."""
        return self._column("pixels")

    @property
    def identity(self) -> pa.ChunkedArray:
        """Return who is pictured (N,); null where the data set does not say."""
        return self._column("identity")

    @property
    def attributes(self) -> list[dict[str, str]]:
        """Return what recall is told by for each image (N,), by name; empty where the data set has no such."""
        if ATTRIBUTES not in self._table.column_names:
            return []
        return [json.loads(text or "{}") for text in self._column(ATTRIBUTES).to_pylist()]

    @cached_property
    def votes(self) -> NDArray[np.float32] | None:
        """Return shares of the annotators' votes (N, C), or None if the data set does not have them."""
        column = self._column("votes")
        if column.null_count:
            return None
        shares = pc.list_flatten(column).combine_chunks().to_numpy()
        return np.asarray(shares, np.float32).reshape(len(self), -1)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Return group numbers (N,) of training images: equal for one person, and for copies and near copies.

        Raises:
            UserError: the file that holds them is missing or damaged.
        """
        try:
            groups: NDArray[np.int64] = np.load(self.folder / GROUPS)
        except (OSError, ValueError) as error:
            raise UserError(
                f"the store {self.folder} is damaged ({GROUPS}); delete it and prepare it again"
            ) from error
        return groups if self.rows is None else groups[self.rows]

    def image(self, i: int) -> NDArray[np.uint8]:
        """Return image ``i`` as (size, size, 3) RGB; a read-only view of the file if the codec is "raw".

        Raises:
            IndexError: ``i`` is not in 0 .. N - 1.
            UserError: a file was damaged after it was written.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        starts, chunks = self._images
        row = i if self.rows is None else int(self.rows[i])
        chunk = bisect_right(starts, row) - 1
        offsets, content = chunks[chunk]
        row -= starts[chunk]
        data = content[offsets[row] : offsets[row + 1]]
        if self.codec == "raw":
            return data.reshape(self.size, self.size, 3)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if decoded is None:  # it was not when the store was made
            raise UserError(f"{self.folder} is damaged at {self.name} image {i}; delete it and prepare it again")
        return np.asarray(decoded, np.uint8)

    def _column(self, name: str) -> pa.ChunkedArray:
        column = self._table[name]
        return column if self.rows is None else column.take(pa.array(self.rows))

    @cached_property
    def _table(self) -> pa.Table:
        numbers = range(self.shards)
        tables = [read_table(self.folder / shard_name(self.name, number)) for number in numbers]
        return pa.concat_tables(tables or [schema(()).empty_table()])

    @cached_property
    def _images(self) -> tuple[list[int], list[tuple[NDArray[np.int32], NDArray[np.uint8]]]]:
        """Return the first row of each chunk of the image column, and each chunk's offsets and bytes in the file.

        Arrow's own scalars would copy an image at each access.
        """
        chunks = self._table["image"].chunks
        lengths = np.array([len(chunk) for chunk in chunks], np.int64)
        parts = []
        for chunk in chunks:
            _, offsets, content = chunk.buffers()
            parts.append((np.frombuffer(offsets, np.int32)[chunk.offset :], np.frombuffer(content, np.uint8)))
        return (np.cumsum(lengths) - lengths).tolist(), parts


class Store:
    """A prepared data set: its ``meta`` data and two splits, by name."""

    def __init__(self, folder: Path, meta: StoreMeta, splits: dict[str, StoreSplit] | None = None) -> None:
        self.folder = folder
        self.meta = meta
        self._splits = splits or {
            name: StoreSplit(folder, name, len(meta.shards[name]), meta.size, meta.codec) for name in SPLITS
        }

    def holding_out(self, test: NDArray[np.bool_], tested_on: str | None, *, to_train: bool = True) -> Store:
        """Return the store with some of its training images as the test set, which it must not have yet.

        Args:
            test: whether each training image (N,) is held out.
            tested_on: name of that part.
            to_train: whether the others are its training images; if not, it has none.
        """
        everything = self.split("train")
        parts = {"train": np.flatnonzero(~test & to_train), "test": np.flatnonzero(test)}
        counts = {
            name: np.bincount(everything.labels[rows], minlength=len(self.classes)).tolist()
            for name, rows in parts.items()
        }
        meta = replace(
            self.meta,
            counts={name: dict(zip(self.classes, numbers, strict=True)) for name, numbers in counts.items()},
            hash=content_hash([self.meta.hash, parts["test"].tolist()]),
            tested_on=tested_on,
        )
        splits = {name: replace(everything, rows=rows) for name, rows in parts.items()}
        return Store(self.folder, meta, splits)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return class names in the classifier's order; labels are indices into them."""
        return self.meta.classes

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the content of both splits, the data's fingerprint."""
        return self.meta.hash

    def split(self, name: str) -> StoreSplit:
        """Return the split "train" or "test"."""
        if name not in SPLITS:
            raise ValueError(f"a store has the splits train and test, not {name!r}")
        return self._splits[name]

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open a store that was prepared before.

        Raises:
            UserError: the folder holds no store, or a damaged one.
        """
        try:
            meta = StoreMeta.from_json((folder / META).read_text(encoding="utf-8"))
            sizes = {file.name: file.stat().st_size for file in folder.glob("*.arrow")}
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} is no store ({error}); delete that folder and prepare it again") from error
        listed = {shard.name: shard.bytes for split in SPLITS for shard in meta.shards[split]}
        if wrong := sorted(name for name, _ in sizes.items() ^ listed.items()):
            raise UserError(f"the store {folder} is damaged ({wrong[0]}); delete it and prepare it again")
        return cls(folder, meta)

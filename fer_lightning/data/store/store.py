"""The prepared store: cropped, resized faces in memory-mapped Arrow files, several shards per split."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, LeftOut

SCHEMA_VERSION = 2
META = "store.json"
SPLITS = ("train", "test")


def schema(classes: tuple[str, ...]) -> pa.Schema:
    """Return the columns of a shard; a label is an index into ``classes``, stored as the file's dictionary."""
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
        ],
        metadata={"classes": json.dumps(classes)},
    )


def read_table(file: Path) -> pa.Table:
    """Return an Arrow file's columns as views of the memory-mapped file."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def shard_name(split: str, number: int) -> str:
    """Return the name of a shard's file."""
    return f"{split}-{number:05d}.arrow"


@dataclass(frozen=True)
class Shard:
    """A file with some of a split's images: its name, number of images, size in bytes and SHA-256."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class StoreMeta:
    """The content of store.json.

    Attributes:
        schema_version: version of the store's format.
        name: name of the data set.
        classes: class names in the classifier's order.
        size: side of the stored pictures in pixels.
        margin: share of the box added on each side before cropping.
        codec: "jpeg", "png" or "raw".
        resize: name of the resizing method.
        leaks: whether training images that are identical to a test image were kept: "keep" or "drop".
        manifest_hash: hash of the manifest that the store was made from.
        counts: images by split and class.
        skipped: number of rows left out on purpose, by split and reason.
        dropped_leaks: number of training images dropped because a test image is pixel-identical, by class.
        test_leaks: number of test images with such a twin in the training rows, by class.
        faults: rows and pictures that could not be used, by name.
        shards: files of each split, in order.
        hash: digest of the shards' digests, the data's fingerprint.
        tested_on: split of the data set that is the test set, or the share held out.
        redistributable: whether its pictures may be shown in a report or uploaded.
        unread: sentence on the files in the data set's folder that were not read; empty if there are none.
    """

    schema_version: int
    name: str
    classes: tuple[str, ...]
    size: int
    margin: float
    codec: str
    resize: str
    leaks: str
    manifest_hash: str
    counts: dict[str, dict[str, int]]
    skipped: LeftOut
    dropped_leaks: dict[str, int]
    test_leaks: dict[str, int]
    faults: tuple[Fault, ...]
    shards: dict[str, tuple[Shard, ...]]
    hash: str
    tested_on: str | None
    redistributable: bool
    unread: str = ""

    def to_json(self) -> str:
        """Return the text of store.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> StoreMeta:
        """Read the text of store.json.

        Raises:
            ValueError: it is not JSON, of another schema version, or a key is missing or unknown.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"it is not of schema version {SCHEMA_VERSION}")
        try:
            values["classes"] = tuple(values["classes"])
            values["faults"] = tuple(Fault(**fault) for fault in values["faults"])
            shards = values["shards"]
            values["shards"] = {split: tuple(Shard(**shard) for shard in shards[split]) for split in SPLITS}
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, eq=False)
class StoreSplit:
    """One split of a store, memory-mapped; a copy for another process opens the files itself.

    Args:
        folder: folder of the store.
        name: name of the split.
        shards: number of its files.
        size: side of the pictures in pixels.
        codec: "jpeg", "png" or "raw".
    """

    folder: Path
    name: str
    shards: int
    size: int
    codec: str

    def __reduce__(self) -> tuple[Callable[..., StoreSplit], tuple[Any, ...]]:
        return StoreSplit, tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        """Return the manifest's ids (N,)."""
        return [str(value) for value in self._table["id"].to_pylist()]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Return indices (N,) into the store's classes."""
        parts = [chunk.indices.to_numpy() for chunk in self._table["label"].chunks]
        return np.concatenate(parts).astype(np.int64)

    @property
    def pixels(self) -> pa.ChunkedArray:
        """Return digests (N,) that are equal for images that were pixel-identical before they were resized."""
        return self._table["pixels"]

    @cached_property
    def votes(self) -> NDArray[np.float32] | None:
        """Return shares of the annotators' votes (N, C), or None if the data set does not have them."""
        column = self._table["votes"]
        if column.null_count:
            return None
        shares = pc.list_flatten(column).combine_chunks().to_numpy()
        return np.asarray(shares, np.float32).reshape(len(self), -1)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Return group numbers (N,), equal for images of one identity, or if unknown, of identical pixels."""
        group = pc.coalesce(self._table["identity"], self.pixels).combine_chunks()
        return np.asarray(group.dictionary_encode().indices.to_numpy(), np.int64)

    def image(self, i: int) -> NDArray[np.uint8]:
        """Return image ``i`` as (size, size, 3) RGB; a read-only view of the file if the codec is "raw".

        Raises:
            IndexError: ``i`` is not in 0 .. N - 1.
            UserError: a file was damaged after it was written.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        starts, chunks = self._images
        chunk = bisect_right(starts, i) - 1
        offsets, content = chunks[chunk]
        row = i - starts[chunk]
        data = content[offsets[row] : offsets[row + 1]]
        if self.codec == "raw":
            return data.reshape(self.size, self.size, 3)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if decoded is None:  # it was not when the store was made
            raise UserError(f"{self.folder} is damaged at {self.name} image {i}; delete it and prepare it again")
        return np.asarray(decoded, np.uint8)

    @cached_property
    def _table(self) -> pa.Table:
        numbers = range(self.shards)
        return pa.concat_tables([read_table(self.folder / shard_name(self.name, number)) for number in numbers])

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
    """A prepared data set: its ``meta`` data and two splits."""

    def __init__(self, folder: Path, meta: StoreMeta) -> None:
        self.folder = folder
        self.meta = meta
        self._splits = {
            name: StoreSplit(folder, name, len(meta.shards[name]), meta.size, meta.codec) for name in SPLITS
        }

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

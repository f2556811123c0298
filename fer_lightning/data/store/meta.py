"""Content of store.json: what a prepared store was made from, and what is in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from fer_lightning.data.manifest import Fault, LeftOut

SCHEMA_VERSION = 3
META = "store.json"
SPLITS = ("train", "test")


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
        root: folder of the data set, with links followed.
        classes: class names in the classifier's order.
        size: side of the stored pictures in pixels.
        margin: share of the box added on each side before cropping.
        codec: "jpeg", "png" or "raw".
        resize: name of the resizing method.
        leaks: whether training images that are identical to a test image were kept: "keep" or "drop".
        manifest_hash: hash of the manifest that the store was made from.
        files_hash: hash of the sizes and times that its pictures' files had.
        counts: images by split and class.
        skipped: number of rows left out on purpose, by split and reason.
        dropped_leaks: number of training images dropped because a test image is pixel-identical, by class.
        test_leaks: number of test images with such a twin in the training rows, by class.
        faults: rows and pictures that could not be used, by name.
        shards: files of each split, in order.
        content_hash: digest of the shards' digests.
        hash: the same, and the rows to test on where they were chosen afterwards: the data's fingerprint.
        tested_on: split of the data set that is the test set, or the share held out.
        near_copies: number of training faces that look like an earlier one, where nobody says who is pictured.
        redistributable: whether its pictures may be shown in a report or uploaded.
        boxed: number of annotated faces with a box, out of which they are cut; None in stores from before it was
            counted.
        unread: sentence on the files in the data set's folder that were not read; empty if there are none.
    """

    schema_version: int
    name: str
    root: str
    classes: tuple[str, ...]
    size: int
    margin: float
    codec: str
    resize: str
    leaks: str
    manifest_hash: str
    files_hash: str
    counts: dict[str, dict[str, int]]
    skipped: LeftOut
    dropped_leaks: dict[str, int]
    test_leaks: dict[str, int]
    faults: tuple[Fault, ...]
    shards: dict[str, tuple[Shard, ...]]
    content_hash: str
    hash: str
    tested_on: str | None
    near_copies: int
    redistributable: bool
    unread: str = ""
    boxed: int | None = None

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

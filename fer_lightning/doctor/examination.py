"""Every picture of a manifest looked at, by as many processes as pay off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.data import near_copies
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.near_copies import THUMB
from fer_lightning.data.readers import common
from fer_lightning.data.store.workers import processes_for, workers
from fer_lightning.doctor import twins
from fer_lightning.doctor.pictures import Look, faces, look_at_all

SPLITS = tuple(common.SPLITS)
CHUNK_ROWS = 256

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examined:
    """The rows of a manifest, split by split, and what their pictures showed.

    Attributes:
        rows: as in the manifest, N of them.
        split: (N,) place of each row's split in SPLITS.
        usable: (N,) whether the picture can be used.
        thumbs: (N, THUMB, THUMB) grey; zeros where there is nothing to see.
        faults: of the pictures, and of rows that are copies of others.
        twins: rows that are copies of others.
        grey: how many pictures have no colours.
    """

    rows: pa.Table
    split: NDArray[np.int64]
    usable: NDArray[np.bool_]
    thumbs: NDArray[np.uint8]
    faults: list[Fault]
    twins: list[twins.Twins]
    grey: int

    def leaking(self) -> list[str]:
        """Ids of the training rows that are copies, or near copies, of held-out ones."""
        held_out = (one for one in self.twins if one.kind.startswith("cross_split"))
        rows = sorted({row for one in held_out for row in one.others if self.split[row] == 0})
        return [str(row_id) for row_id in self.rows["id"].take(pa.array(rows, pa.int64())).to_pylist()]

    def counts(self, classes: tuple[str, ...], *, usable: bool) -> dict[str, dict[str, int]]:
        """Rows, or those of them with a usable picture, by split and class; splits that have none are left out."""
        labels = pc.index_in(self.rows["label"], pa.array(classes)).to_numpy()
        wanted = self.usable if usable else np.ones_like(self.usable)
        counts = {}
        for place, name in enumerate(SPLITS):
            if (here := self.split == place).any():
                found = np.bincount(labels[here & wanted], minlength=len(classes))
                counts[name] = dict(zip(classes, found.tolist(), strict=True))
        return counts


def examine(
    manifest: Manifest,
    margin: float,
    processes: int | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Examined:
    """Open every picture, and compare them all.

    Args:
        manifest: what a reader found.
        margin: see ``fer prepare``: pixel-identical is what it takes for identical.
        processes: how many look; None: as many as pay off. No influence on the result.
        progress: told what is begun, gives what is called with (done, of all).
    """
    parts = [manifest.rows.filter(pc.equal(manifest.rows["split"], name)) for name in SPLITS]
    rows = pa.concat_tables(parts)
    found = _Found(len(rows))
    looking = progress("pictures") if progress else None
    with workers(look_at_all, processes or processes_for(len(rows))) as look:
        for part in parts:
            chunks = [part.slice(start, CHUNK_ROWS) for start in range(0, len(part), CHUNK_ROWS)]
            for chunk, looks in zip(chunks, look(faces(manifest, chunks, margin)), strict=True):
                found.add(chunk["id"].to_pylist(), looks)
                if looking:
                    looking(found.done, len(rows))
    split = np.repeat(np.arange(len(SPLITS)), [len(part) for part in parts])
    labels = rows["label"].to_pylist()
    number, group = found.numbers(progress("pairs that look alike") if progress else None)
    copies = [*twins.same(number, split, labels), *twins.alike(group, number, split)]
    copies.sort(key=lambda one: one.row)
    ids = rows["id"].to_pylist()
    faults = [*found.faults, *(_fault(one, ids, labels, split) for one in copies)]
    if 0 < found.grey.sum() <= (number >= 0).sum() / 2:
        faults += [Fault("grey", ids[row], "no colours") for row in np.flatnonzero(found.grey)]
    return Examined(rows, split, number >= 0, found.thumbs, faults, copies, int(found.grey.sum()))


class _Found:
    """What was seen so far, a row a place."""

    def __init__(self, rows: int) -> None:
        self.done = 0
        self.faults: list[Fault] = []
        self.digests = np.zeros(rows, "S32")
        self.looks = np.zeros(rows, np.uint64)
        self.thumbs = np.zeros((rows, THUMB, THUMB), np.uint8)
        self.seen = np.zeros(rows, np.bool_)  # there is something to see
        self.grey = np.zeros(rows, np.bool_)

    def add(self, ids: list[str], looks: list[Look]) -> None:
        for row, (row_id, look) in enumerate(zip(ids, looks, strict=True), start=self.done):
            self.faults += [Fault(kind, row_id, detail) for kind, detail in look.odd]
            self.digests[row] = look.digest.encode()
            self.looks[row] = look.looks
            self.grey[row] = look.grey
            self.seen[row] = bool(look.thumb)
            if look.thumb:
                self.thumbs[row] = np.frombuffer(look.thumb, np.uint8).reshape(THUMB, THUMB)
        self.done += len(ids)

    def numbers(self, progress: Progress | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A number for each picture, and one for each group of pictures that look alike; -1: there is none."""
        _, first, number = np.unique(self.digests, return_index=True, return_inverse=True)
        compared = self.seen[first]
        group = np.full(len(first), -1)
        places = first[compared]
        group[compared] = near_copies.near_groups(self.looks[places], self.thumbs[places], progress)
        group = group[number]
        return np.where(self.digests != b"", number, -1), group


def _fault(one: twins.Twins, ids: list[str], labels: list[str], split: NDArray[np.int64]) -> Fault:
    shown = [f"{ids[row]} ({SPLITS[split[row]]}, {labels[row]})" for row in one.others[:3]]
    more = f" and {len(one.others) - 3} more" if len(one.others) > 3 else ""
    return Fault(one.kind, ids[one.row], f"{labels[one.row]}; like {', '.join(shown)}{more}")

"""The examination of every picture of a manifest, by as many processes as pay off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_lightning.data import near_copies
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.near_copies import THUMB
from fer_lightning.data.readers import common
from fer_lightning.data.store.workers import processes_for, workers
from fer_lightning.doctor import twins
from fer_lightning.doctor.pictures import Look, faces, look_at_all

SPLITS = tuple(common.SPLITS)
CHUNK_ROWS = 256


@dataclass(frozen=True)
class Examined:
    """The rows of a manifest, split by split, and what their pictures showed.

    Attributes:
        rows: the N rows, with the manifest's columns.
        split: (N,) index of each row's split in SPLITS.
        usable: (N,) whether the picture can be used.
        thumbs: (N, THUMB, THUMB) grey thumbnails; zeros where there is nothing to see.
        faults: faults of the pictures, and of rows that are copies of others.
        twins: rows that are copies of others.
        grey: number of pictures without colours.
    """

    rows: pa.Table
    split: NDArray[np.int64]
    usable: NDArray[np.bool_]
    thumbs: NDArray[np.uint8]
    faults: list[Fault]
    twins: list[twins.Twins]
    grey: int

    def leaking(self) -> list[str]:
        """Return the ids of training rows that are copies, or near copies, of held-out ones."""
        held_out = (twin for twin in self.twins if twin.kind.startswith("cross_split"))
        rows = sorted({row for twin in held_out for row in twin.others if self.split[row] == 0})
        return [str(row_id) for row_id in self.rows["id"].take(pa.array(rows, pa.int64())).to_pylist()]

    def counts(self, classes: tuple[str, ...], *, usable: bool) -> dict[str, dict[str, int]]:
        """Count rows by split and class, without splits that have none.

        Args:
            classes: class names in order.
            usable: whether to count only rows whose picture can be used.
        """
        labels = pc.index_in(self.rows["label"], pa.array(classes)).to_numpy()
        wanted = self.usable if usable else np.ones_like(self.usable)
        counts = {}
        for number, name in enumerate(SPLITS):
            if (in_split := self.split == number).any():
                by_class = np.bincount(labels[in_split & wanted], minlength=len(classes))
                counts[name] = dict(zip(classes, by_class.tolist(), strict=True))
        return counts


def examine(
    manifest: Manifest,
    margin: float,
    processes: int | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Examined:
    """Open every picture, and compare all pictures with each other.

    Args:
        manifest: rows of the data set.
        margin: as in ``prepare``, so that both call the same faces pixel-identical.
        processes: number of processes; None starts as many as pay off. It does not influence the result.
        progress: receives the name of a step, and returns the callback for its (done, all).
    """
    parts = [manifest.rows.filter(pc.equal(manifest.rows["split"], name)) for name in SPLITS]
    rows = pa.concat_tables(parts)
    ids, labels = rows["id"].to_pylist(), rows["label"].to_pylist()
    looks = _Looks(ids)
    report_pictures = progress("pictures") if progress else None
    with workers(look_at_all, processes or processes_for(len(rows))) as look:
        for part in parts:
            chunks = [part.slice(start, CHUNK_ROWS) for start in range(0, len(part), CHUNK_ROWS)]
            for new in look(faces(manifest, chunks, margin)):
                looks.add(new)
                if report_pictures:
                    report_pictures(looks.done, len(rows))
    split = np.repeat(np.arange(len(SPLITS)), [len(part) for part in parts])
    number, group = looks.numbers(progress("pairs that look alike") if progress else None)
    usable = number >= 0
    copies = [*twins.same(number, split, labels), *twins.alike(group, number, split)]
    copies.sort(key=lambda twin: twin.row)
    faults = [*looks.faults, *(_fault(twin, ids, labels, split) for twin in copies)]
    faults += _persons_across_splits(rows)
    if 0 < looks.grey.sum() <= usable.sum() / 2:
        faults += [Fault("grey", ids[row], "no colours") for row in np.flatnonzero(looks.grey)]
    return Examined(rows, split, usable, looks.thumbs, faults, copies, int(looks.grey.sum()))


def _persons_across_splits(rows: pa.Table) -> list[Fault]:
    """Return a fault for each person with rows in several splits, where the data set says who is pictured."""
    known = rows.select(["identity", "split"]).filter(pc.is_valid(rows["identity"]))
    splits: dict[str, dict[str, int]] = {}
    for group in (
        known.group_by(["identity", "split"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    ):
        splits.setdefault(group["identity"], {})[group["split"]] = group["count_all"]
    return [
        Fault("person_across_splits", person, ", ".join(f"{count} in {name}" for name, count in by_split.items()))
        for person, by_split in splits.items()
        if len(by_split) > 1
    ]


class _Looks:
    """The looks at pictures so far, as arrays over all rows."""

    def __init__(self, ids: list[str]) -> None:
        rows = len(ids)
        self.ids = ids
        self.done = 0
        self.faults: list[Fault] = []
        self.digests = np.zeros(rows, "S32")
        self.hashes = np.zeros(rows, np.uint64)
        self.thumbs = np.zeros((rows, THUMB, THUMB), np.uint8)
        self.seen = np.zeros(rows, np.bool_)  # whether there is something to see
        self.grey = np.zeros(rows, np.bool_)

    def add(self, looks: list[Look]) -> None:
        for row, look in enumerate(looks, start=self.done):
            self.faults += [Fault(kind, self.ids[row], detail) for kind, detail in look.odd]
            self.digests[row] = look.digest.encode()
            self.hashes[row] = look.looks
            self.grey[row] = look.grey
            self.seen[row] = bool(look.thumb)
            if look.thumb:
                self.thumbs[row] = np.frombuffer(look.thumb, np.uint8).reshape(THUMB, THUMB)
        self.done += len(looks)

    def numbers(self, progress: Progress | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return numbers of pictures, and of groups of pictures that look alike.

        Returns:
            (N,) equal for pixel-identical pictures, -1 for unusable ones; and (N,) equal for pictures that look
            alike, -1 for those that were not compared.
        """
        _, first, number = np.unique(self.digests, return_index=True, return_inverse=True)
        compared = self.seen[first]
        group = np.full(len(first), -1)
        rows = first[compared]
        group[compared] = near_copies.near_groups(self.hashes[rows], self.thumbs[rows], progress)
        return np.where(self.digests != b"", number, -1), group[number]


def _fault(twin: twins.Twins, ids: list[str], labels: list[str], split: NDArray[np.int64]) -> Fault:
    shown = [f"{ids[row]} ({SPLITS[split[row]]}, {labels[row]})" for row in twin.others[:3]]
    more = f" and {len(twin.others) - 3} more" if len(twin.others) > 3 else ""
    return Fault(twin.kind, ids[twin.row], f"{labels[twin.row]}; like {', '.join(shown)}{more}")

"""The report on a data set: as JSON for programs, as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

import pyarrow.compute as pc

from fer_lightning.core.templates import printable
from fer_lightning.data.manifest import Fault, LeftOut, Manifest
from fer_lightning.data.readers.layouts import Folder
from fer_lightning.data.unread import Unread, files, is_too_much, unexpected
from fer_lightning.doctor.examination import Examined
from fer_lightning.doctor.kinds import MEANING, rank, spoils
from fer_lightning.doctor.published import PUBLISHED, Counts

MOST = 12
"""Number of kinds and places of files that were not read that the text shows."""

FIRST = 3
"""Number of faults of a kind that the text shows."""


@dataclass(frozen=True)
class Report:
    """The content of a data set and its faults.

    Attributes:
        layout: name of the option in ``conf/data`` that reads it.
        root: folder of the data set.
        classes: class names, in order.
        counts: number of annotated rows by split and class.
        usable: number of rows whose picture can be used, by split and class.
        published: published numbers by split and class, as far as known.
        left_out: number of rows of other labels, by split and label.
        faults: all faults, the worst kinds first.
        unread: files in the data set's folder that were not read.
        notes: further sentences for the user.
    """

    layout: str
    root: str
    classes: tuple[str, ...]
    counts: Counts
    usable: Counts
    published: Counts
    left_out: LeftOut
    faults: tuple[Fault, ...]
    unread: tuple[Unread, ...]
    notes: tuple[str, ...]

    @property
    def spoils(self) -> bool:
        """Return whether any fault, or what was not read, would spoil a result."""
        return self.lacks_data or any(spoils(fault.kind) for fault in self.faults)

    @property
    def lacks_data(self) -> bool:
        """Return whether what was not read would spoil a result."""
        return is_too_much(self.unread, sum(sum(by_class.values()) for by_class in self.counts.values()))

    def by_kind(self) -> dict[str, list[Fault]]:
        """Return the faults by kind, the worst kind first."""
        return {kind: list(faults) for kind, faults in groupby(self.faults, lambda fault: fault.kind)}

    def verdict(self) -> str:
        """Return a sentence that says whether a result would be spoilt, and by what."""
        bad = [f"{len(faults):,} {kind}" for kind, faults in self.by_kind().items() if spoils(kind)]
        number = unexpected(self.unread)
        if self.lacks_data:
            bad.append(f"{number:,} not read")
        if bad:
            return f"This would spoil a result: {', '.join(bad)}."
        if number:
            return f"Nothing in what was read would spoil a result; {number:,} {files(number)} not read."
        return "Nothing that would spoil a result."

    def to_json(self) -> str:
        """Return the whole report as JSON in ASCII; bytes of names that are not text become escapes."""
        content = asdict(self)
        content |= {"spoils": self.spoils, "notes": content.pop("notes")}
        return json.dumps(content, indent=1) + "\n"

    def to_text(self) -> str:
        """Return a short report: counts, and the first few faults of each kind."""
        total = sum(sum(by_class.values()) for by_class in self.counts.values())
        lines = [f"{printable(self.root)}: {self.layout}, {total:,} pictures", "", *_table(self.columns())]
        if notes := [*self.notes, *self.tell_left_out()]:
            lines += ["", *map(printable, notes)]
        for kind, faults in self.by_kind().items():
            lines += ["", f"{len(faults):,} {kind}: {MEANING.get(kind, 'see the reader')}"]
            lines += [f"    {printable(fault.path)}: {printable(fault.detail)}"[:300] for fault in faults[:FIRST]]
            lines += ["    ..."] if len(faults) > FIRST else []
        for title, entries in self.tell_unread().items():
            lines += ["", title, *(f"    {printable(str(entry))}"[:300] for entry in entries[:MOST])]
            lines += [f"    and {len(entries) - MOST:,} more kinds and places"] if len(entries) > MOST else []
        return "\n".join([*lines, "", self.verdict()])

    def tell_unread(self) -> dict[str, list[Unread]]:
        """Return what was not read by a heading: what should perhaps have been, and what is expected."""
        told: dict[str, list[Unread]] = {}
        for expected, ending in ((False, ""), (True, ", as expected")):
            if entries := [entry for entry in self.unread if entry.expected == expected]:
                number = sum(entry.count for entry in entries)
                told[f"{number:,} {files(number)} not read{ending}:"] = entries
        return told

    def tell_left_out(self) -> list[str]:
        """Return a sentence for each split with rows that are left out."""
        return [
            f"Left out of {split}: {', '.join(f'{rows:,} {label}' for label, rows in by_label.items())}."
            for split, by_label in self.left_out.items()
        ]

    def columns(self) -> Iterator[tuple[str, str, dict[str, int]]]:
        """Yield the columns to show: a split, a name for the numbers, and the numbers by class."""
        for split, by_class in self.counts.items():
            yield split, "rows", by_class
            if self.usable != self.counts:
                yield split, "usable", self.usable.get(split, {})
            if split in self.published:
                yield split, "published", self.published[split]


def report(
    manifest: Manifest,
    examined: Examined,
    published: Counts | None = None,
    not_read: Sequence[Unread] = (),
) -> Report:
    """Build the report from a manifest and the examination of its pictures.

    Args:
        manifest: rows of the data set.
        examined: result of the examination.
        published: published numbers by split and class; None takes the known ones of this layout.
        not_read: files in the data set's folder that were not read.
    """
    classes = manifest.classes
    counts, usable = (examined.counts(classes, usable=only) for only in (False, True))
    lacking = [name for name in classes if not any(by_class[name] for by_class in counts.values())]
    empty = [
        Fault("empty_class", split, f"no usable picture of {name}")
        for split in counts
        for name in classes
        if not usable[split][name] and name not in lacking
    ]
    faults = (*manifest.faults, *examined.faults, *empty)
    known = PUBLISHED.get(manifest.name, {}) if published is None else published
    return Report(
        layout=manifest.name,
        root=str(manifest.root),
        classes=classes,
        counts=counts,
        usable=usable,
        published={
            split: {name: by_class[name] for name in classes if name in by_class}
            for split, by_class in known.items()
            if split in counts
        },
        left_out=dict(manifest.skipped),
        faults=tuple(sorted(faults, key=lambda fault: (rank(fault.kind), fault.kind))),
        unread=tuple(not_read),
        notes=tuple(_notes(manifest, examined, lacking)),
    )


def _notes(manifest: Manifest, examined: Examined, lacking: Sequence[str]) -> Iterator[str]:
    folder = Folder(manifest.folder or manifest.root, manifest.follow_links)
    if hint := folder.hint_at_links():
        yield f"{hint.removeprefix('; ')}."
    if manifest.name == "ferplus" and "test" not in pc.unique(manifest.rows["split"]).to_pylist():
        yield "FER2013Test is not there: data.test_split=valid tests on FER2013Valid."
    if lacking:
        yield f"No picture of {', '.join(lacking)} in any split: set data.classes=[...] without it."
    usable = int(examined.usable.sum())
    if examined.grey > usable / 2:
        yield f"{'All' if examined.grey == usable else f'{examined.grey:,} of {usable:,}'} pictures are grey."
    if set(examined.split.tolist()) == {0}:
        yield "There is no held-out part: data.test_split=20% holds out a share."


def _table(columns: Iterator[tuple[str, str, dict[str, int]]]) -> list[str]:
    shown = list(columns)
    classes = list(shown[0][2])
    names = ["", *classes, "all"]
    padded = [[f"{name:<{max(map(len, names))}}" for name in names]]
    for split, kind, numbers in shown:
        counts = [f"{numbers[label]:,}" if label in numbers else "-" for label in classes]
        cells = [split if kind == "rows" else kind, *counts, f"{sum(numbers.values()):,}"]
        padded.append([f"{cell:>{max(map(len, cells))}}" for cell in cells])
    return ["  ".join(line) for line in zip(*padded, strict=True)]

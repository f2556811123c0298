"""What was found: as JSON for programs, as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fer_lightning.core.html import printable
from fer_lightning.data.manifest import Fault, LeftOut, Manifest
from fer_lightning.doctor.examination import Examined
from fer_lightning.doctor.kinds import MEANING, rank, spoils
from fer_lightning.doctor.published import PUBLISHED, Counts

FIRST = 3
"""Faults of a kind that the text shows."""


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it.

    Attributes:
        layout: the name of the option in conf/data that reads it.
        root: its folder.
        classes: names, in order.
        counts: rows of its annotations by split and class.
        usable: those of them whose picture can be used.
        published: as far as known, how many there should be.
        left_out: rows of other labels, by split and label.
        faults: all of them, the worst kinds first.
        notes: further things to know.
    """

    layout: str
    root: str
    classes: tuple[str, ...]
    counts: Counts
    usable: Counts
    published: Counts
    left_out: LeftOut
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    @property
    def spoils(self) -> bool:
        """Whether anything would spoil a result."""
        return any(spoils(fault.kind) for fault in self.faults)

    def by_kind(self) -> dict[str, list[Fault]]:
        """The faults by kind, the worst first."""
        return {kind: list(faults) for kind, faults in groupby(self.faults, lambda fault: fault.kind)}

    def verdict(self) -> str:
        """One sentence."""
        bad = [f"{len(faults):,} {kind}" for kind, faults in self.by_kind().items() if spoils(kind)]
        return f"This would spoil a result: {', '.join(bad)}." if bad else "Nothing that would spoil a result."

    def to_json(self) -> str:
        """Everything, in ASCII: a name that is no text keeps its bytes as escapes."""
        content = {
            "layout": self.layout,
            "root": self.root,
            "classes": list(self.classes),
            "counts": self.counts,
            "usable": self.usable,
            "published": self.published,
            "left_out": self.left_out,
            "faults": [{"kind": f.kind, "path": f.path, "detail": f.detail} for f in self.faults],
            "spoils": self.spoils,
            "notes": list(self.notes),
        }
        return json.dumps(content, indent=1) + "\n"

    def to_text(self) -> str:
        """A short report: counts, and the first few faults of each kind."""
        total = sum(sum(by_class.values()) for by_class in self.counts.values())
        lines = [f"{printable(self.root)}: {self.layout}, {total:,} pictures", "", *_table(self.columns())]
        if told := [*self.notes, *self.tell_left_out()]:
            lines += ["", *map(printable, told)]
        for kind, faults in self.by_kind().items():
            lines += ["", f"{len(faults):,} {kind}: {MEANING.get(kind, 'see the reader')}"]
            lines += [f"    {printable(f.path)}: {printable(f.detail)}"[:300] for f in faults[:FIRST]]
            lines += ["    ..."] if len(faults) > FIRST else []
        return "\n".join([*lines, "", self.verdict()])

    def tell_left_out(self) -> list[str]:
        """A sentence a split."""
        counted = {s: ", ".join(f"{n:,} {label}" for label, n in of.items()) for s, of in self.left_out.items()}
        return [f"Left out of {split}: {told}." for split, told in counted.items()]

    def columns(self) -> Iterator[tuple[str, str, dict[str, int]]]:
        """The numbers to show: split, what they are, and how many of each class."""
        for split, by_class in self.counts.items():
            yield split, "rows", by_class
            if self.usable != self.counts:
                yield split, "usable", self.usable.get(split, {})
            if split in self.published:
                yield split, "published", self.published[split]


def report(manifest: Manifest, examined: Examined, published: Counts | None = None) -> Report:
    """Put together what a reader and a look at every picture found.

    Args:
        manifest: what the reader found.
        examined: what the pictures showed.
        published: how many pictures there should be; None: as known for this layout.
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
    known = PUBLISHED.get(manifest.name, {}) if published is None else published
    return Report(
        layout=manifest.name,
        root=str(manifest.root),
        classes=classes,
        counts=counts,
        usable=usable,
        published={s: {c: n[c] for c in classes if c in n} for s, n in known.items() if s in counts},
        left_out=dict(manifest.skipped),
        faults=tuple(sorted((*manifest.faults, *examined.faults, *empty), key=lambda f: (rank(f.kind), f.kind))),
        notes=tuple(_notes(examined, lacking)),
    )


def _notes(examined: Examined, lacking: Sequence[str]) -> Iterator[str]:
    if lacking:
        yield f"No picture of {', '.join(lacking)} in any split: say data.classes=[...] without it."
    usable = int(examined.usable.sum())
    if examined.grey > usable / 2:
        yield f"{'All' if examined.grey == usable else f'{examined.grey:,} of {usable:,}'} pictures are grey."
    if set(examined.split.tolist()) == {0}:
        yield "There is no held-out part: data.test_split=20% holds out a share."


def _table(columns: Iterator[tuple[str, str, dict[str, int]]]) -> list[str]:
    shown = list(columns)
    classes = list(shown[0][2])
    body: list[Sequence[str]] = [["", *(split if what == "rows" else what for split, what, _ in shown)]]
    for name in classes:
        body.append([name, *(f"{numbers[name]:,}" if name in numbers else "-" for _, _, numbers in shown)])
    body.append(["all", *(f"{sum(numbers.values()):,}" for _, _, numbers in shown)])
    widths = [max(len(line[k]) for line in body) for k in range(len(body[0]))]
    return [
        f"{line[0]:<{widths[0]}}" + "".join(f"  {n:>{w}}" for n, w in zip(line[1:], widths[1:], strict=True))
        for line in body
    ]

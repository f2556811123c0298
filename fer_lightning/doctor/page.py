"""What was found as one HTML page that needs nothing else: counts, faults, copies side by side, faces by class."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from fer_lightning.core.html import document, text
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.near_copies import likeness
from fer_lightning.data.store.crop import Recipe, UnusableError, crop
from fer_lightning.doctor import pictures
from fer_lightning.doctor.examination import SPLITS, Examined
from fer_lightning.doctor.kinds import MEANING, spoils
from fer_lightning.doctor.report import Report
from fer_lightning.doctor.twins import Twins

LISTED = 200
"""Faults of a kind that the page lists; all of them are in the JSON file."""

PAIRED = {
    "cross_split_duplicate": "Copies across splits",
    "cross_split_near_duplicate": "Near copies across splits",
    "labels_disagree": "One picture, several labels",
}
"""Kinds that are shown side by side."""

SIDE = 64
"""Of a face on the page, in pixels."""

PRIVATE = '<p class="soft">This page holds pictures of the data set: its licence holds for the page, too.</p>'

_PAIRS = 24
_FACES = 15

Images = Mapping[int, str]
"""Pictures as data URIs, by their row."""


def page(report: Report, manifest: Manifest, examined: Examined, recipe: Recipe) -> str:
    """The page. Its faces are read again; they are a sample that is the same each time.

    Args:
        report: what was found.
        manifest: as examined.
        examined: what the pictures showed.
        recipe: how to cut the faces out that are shown; its codec is jpeg.
    """
    random = np.random.default_rng(0)
    pairs = {kind: _pairs(kind, examined, random) for kind in PAIRED}
    sheet = _sheet(report.classes, examined, random)
    wanted = {row for shown in pairs.values() for pair in shown for row in pair}
    wanted |= {row for rows in sheet.values() for row in rows}
    faces = _faces(manifest, examined, sorted(wanted), recipe)
    parts = [
        _head(report),
        _counts(report),
        _faults(report),
        *(_side_by_side(PAIRED[kind], shown, faces, examined) for kind, shown in pairs.items()),
        _contact_sheet(report.classes, sheet, faces, examined),
        "" if manifest.redistributable else PRIVATE,
    ]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return document(f"fer doctor: {report.layout}", "".join(parts), style)


def _head(report: Report) -> str:
    total = sum(sum(by_class.values()) for by_class in report.counts.values())
    notes = map(text, (*report.notes, *report.tell_left_out()))
    return (
        f"<h1>{text(report.layout)}: {total:,} pictures</h1>"
        f'<p class="path soft">{text(report.root)}</p>'
        f'<p class="verdict {"bad" if report.spoils else "good"}">{text(report.verdict())}</p>'
        + "".join(f'<p class="soft">{note}</p>' for note in notes)
    )


def _counts(report: Report) -> str:
    cards = []
    for split, counts in report.counts.items():
        others = {name: table[split] for name, table in _others(report).items() if split in table}
        most = max(1, *counts.values(), *others.get("published", {}).values())
        head = "".join(f'<th class="number {name}">{name}</th>' for name in ("rows", *others))
        lines = []
        for name, count in counts.items():
            cells = [f"{count:,}", *(f"{o[name]:,}" if name in o else "–" for o in others.values())]
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
            bar = f'<i style="width:{100 * count / most:.2f}%"></i>'
            if name in others.get("published", {}):
                bar += f'<b style="left:{100 * others["published"][name] / most:.2f}%"></b>'
            lines.append(
                f'<tr><th>{text(name)}</th><td class="bars"><div class="bar">{bar}</div></td>{numbers}</tr>'
            )
        sums = "".join(f'<td class="number">{sum(c.values()):,}</td>' for c in (counts, *others.values()))
        cards.append(
            f'<div class="card"><h3>{split}</h3><table><tr><th></th><th></th>{head}</tr>{"".join(lines)}'
            f'<tr class="all"><th>all</th><td></td>{sums}</tr></table></div>'
        )
    return f'<h2>Classes</h2><div class="splits">{"".join(cards)}</div>'


def _others(report: Report) -> dict[str, dict[str, dict[str, int]]]:
    usable = {} if report.usable == report.counts else {"usable": report.usable}
    return {**usable, **({"published": report.published} if report.published else {})}


def _faults(report: Report) -> str:
    if not report.faults:
        return "<h2>Faults</h2><p>None.</p>"
    return "<h2>Faults</h2>" + "".join(_kind(kind, faults) for kind, faults in report.by_kind().items())


def _kind(kind: str, faults: Sequence[Fault]) -> str:
    items = [
        f'<li><span class="path">{text(fault.path)}</span> <span class="soft">{text(fault.detail)}</span></li>'
        for fault in faults[:LISTED]
    ]
    if len(faults) > LISTED:
        items.append(f'<li class="soft">and {len(faults) - LISTED:,} more: --json has them all</li>')
    weight = "bad" if spoils(kind) else "mild"
    return (
        f'<details class="{weight}"><summary><span class="count">{len(faults):,}</span> '
        f'<strong>{text(kind)}</strong> <span class="soft">{MEANING.get(kind, "")}</span></summary>'
        f"<ul>{''.join(items)}</ul></details>"
    )


def _pairs(kind: str, examined: Examined, random: np.random.Generator) -> list[tuple[int, int]]:
    """A sample of rows of a kind, each with the row that is most like it."""
    found = [one for one in examined.twins if one.kind == kind]
    sample = random.permutation(len(found))[:_PAIRS]
    return [(found[k].row, _closest(found[k], examined)) for k in sorted(sample)]


def _closest(one: Twins, examined: Examined) -> int:
    """The other that is most like it; where labels disagree, the first with another label."""
    labels = examined.rows["label"]
    if one.kind == "labels_disagree":
        return next(row for row in one.others if labels[row] != labels[one.row])
    return max(one.others[:50], key=lambda row: likeness(examined.thumbs[one.row], examined.thumbs[row]))


def _sheet(
    classes: Sequence[str], examined: Examined, random: np.random.Generator
) -> dict[tuple[str, str], list[int]]:
    """Rows to show by class and split."""
    labels = np.array(examined.rows["label"].to_pylist(), dtype=object)
    shown = {}
    for name in classes:
        for place, split in enumerate(SPLITS):
            rows = np.flatnonzero((labels == name) & (examined.split == place) & examined.usable)
            if len(rows):
                shown[name, split] = sorted(random.permutation(rows)[:_FACES].tolist())
    return shown


def _faces(manifest: Manifest, examined: Examined, wanted: Sequence[int], recipe: Recipe) -> Images:
    """The faces of some rows, ascending, small; one that has gone meanwhile is left out."""
    faces: dict[int, str] = {}
    for place in range(len(SPLITS)):
        rows = [row for row in wanted if examined.split[row] == place]
        if rows:
            (found,) = pictures.faces(manifest, [examined.rows.take(pa.array(rows))], recipe.margin)
            for row, picture, box in zip(rows, found.pictures, found.boxes, strict=True):
                with suppress(UnusableError):
                    faces[row] = _uri(crop(picture, manifest.root, box, recipe).image)
    return faces


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def _side_by_side(title: str, pairs: Sequence[tuple[int, int]], faces: Images, examined: Examined) -> str:
    figures = [_pair(pair, faces, examined) for pair in pairs if all(row in faces for row in pair)]
    return f'<h2>{title}</h2><div class="pairs">{"".join(figures)}</div>' if figures else ""


def _pair(pair: tuple[int, int], faces: Images, examined: Examined) -> str:
    labels = [examined.rows["label"][row].as_py() for row in pair]
    images = "".join(_image(row, faces, examined) for row in pair)
    names = "".join(
        f"<span>{SPLITS[examined.split[row]]}<br>{text(label)}</span>"
        for row, label in zip(pair, labels, strict=True)
    )
    return f'<figure class="pair{" differ" if labels[0] != labels[1] else ""}">{images}{names}</figure>'


def _image(row: int, faces: Images, examined: Examined) -> str:
    name = text(examined.rows["id"][row].as_py())
    return f'<img src="{faces[row]}" alt="" title="{name}" loading="lazy" width="{SIDE}" height="{SIDE}">'


def _contact_sheet(
    classes: Sequence[str], sheet: Mapping[tuple[str, str], Sequence[int]], faces: Images, examined: Examined
) -> str:
    parts = []
    for name in classes:
        parts.append(f"<h3>{text(name)}</h3>")
        for split in SPLITS:
            if (name, split) in sheet:
                images = "".join(_image(row, faces, examined) for row in sheet[name, split] if row in faces)
                parts.append(f'<span class="soft">{split}</span><div>{images}</div>')
    return f'<h2>Faces</h2><div class="card faces">{"".join(parts)}</div>'

"""The page put together: report.html and its figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_lightning.core.files import write_atomic
from fer_lightning.core.html import document, text
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output import exports, verdicts
from fer_lightning.tables.output.notes import foot
from fer_lightning.tables.output.page import (
    calibration,
    centers,
    confusion,
    embedding,
    figure_style,
    mistakes,
    recall,
    search,
    training,
)
from fer_lightning.tables.output.page.section import DRAWN, OPEN, Picture, Section, paragraphs

REPORT = "report.html"
FIGURES = "figures"


def write(table: Table, out: Path) -> list[Path]:
    """Write report.html, which needs nothing else, and its figures as SVG on white; returns the paths, it last."""
    import matplotlib as mpl

    with mpl.rc_context(figure_style.STYLE):  # type: ignore[arg-type]
        sections = [
            recall.section(table),
            confusion.section(table),
            training.section(table),
            embedding.section(table),
            centers.spread(table),
            centers.movement(table),
            calibration.section(table),
            search.section(table.search),
            mistakes.section(table),
            _again(table),
        ]
    written = []
    for picture in (picture for section in sections for picture in section.pictures):
        written.append(out / FIGURES / f"{picture.name}.svg")
        write_atomic(written[-1], figure_style.on_paper(picture.svg))
    write_atomic(out / REPORT, _page(table, sections))
    return [*written, out / REPORT]


def _page(table: Table, sections: Sequence[Section]) -> str:
    style, script = (
        Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    links = "".join(f'<a href="#{section.name}">{text(section.title)}</a>' for section in sections)
    nav = f'<nav aria-label="Sections">{links}</nav>'
    body = f"{_head(table, nav)}{''.join(map(_section, sections))}"
    return document(table.title, body, style, script)


def _head(table: Table, nav: str) -> str:
    contrasts = "".join(f"<li>{text(line)}</li>" for line in verdicts.contrasts(table))
    notes = "".join(f"<li>{text(line)}</li>" for line in foot(table))
    return (
        f"<h1>{text(table.title)}</h1>"
        f'<p class="verdict">{text(verdicts.verdict(table))}</p>{nav}'
        f"{paragraphs(filter(None, (table.substitute, _left_out(table))))}"
        '<div class="card scroll" id="table" tabindex="0" role="region" aria-label="The table">'
        f"{exports.to_html(table)}</div>"
        + (f"<h2>{text(exports.CONTRASTS.rstrip(':'))}</h2><ul>{contrasts}</ul>" if contrasts else "")
        + f'<details open><summary>Notes</summary><ul class="soft">{notes}</ul></details>'
    )


def _left_out(table: Table) -> str:
    if len(table.present) <= DRAWN:
        return ""
    return (
        f"Figures of their own have {DRAWN} of {len(table.present)} rows: those that the table is about, then "
        "those with the highest macro recall."
    )


def _section(section: Section) -> str:
    first, more = section.pictures[:OPEN], section.pictures[OPEN:]
    rest = f"<details><summary>{len(more)} more</summary>{_gallery(more)}</details>" if more else ""
    return (
        f'<section id="{section.name}"><h2>{text(section.title)}</h2>{paragraphs(section.sentences)}'
        f"{section.markup}{_gallery(first)}{rest}</section>"
    )


def _gallery(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    return f'<div class="gallery{" one" if len(pictures) == 1 else ""}">{"".join(map(_figure, pictures))}</div>'


def _figure(picture: Picture) -> str:
    caption = f" {text(picture.caption)}" if picture.caption else ""
    return (
        f'<figure class="card"><figcaption><strong>{text(picture.title)}</strong>{caption}</figcaption>'
        f"{figure_style.on_page(picture)}</figure>"
    )


def _again(table: Table) -> Section:
    """How to get it again: the command, and all that its results share. No path of the machine is in it."""
    said = f"<p>Run it again:</p><pre><code>{text(table.command)}</code></pre>" if table.command else ""
    protocol = "".join(
        f"<dt>{text(key)}</dt><dd>{text(_joined(value))}</dd>" for key, value in table.protocol.items()
    )
    sentence = "The protocol that all results share; versions, machine and run time are in the notes above."
    markup = f"{said}<details><summary>Protocol</summary><dl>{protocol}</dl></details>"
    return Section("again", "How to get it again", [sentence], markup=markup)


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

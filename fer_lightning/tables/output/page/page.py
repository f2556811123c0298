"""The report of a table, report.html, and its figures as files."""

from __future__ import annotations

from pathlib import Path

from fer_lightning.core.files import write_atomic
from fer_lightning.core.templates import render
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output import verdicts
from fer_lightning.tables.output.columns import columns, lines
from fer_lightning.tables.output.formats import TEMPLATES
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
from fer_lightning.tables.output.page.section import DRAWN, OPEN, Section

REPORT = "report.html"
FIGURES = "figures"


def write(table: Table, out: Path) -> list[Path]:
    """Write the figures as SVG on white, and report.html, which needs no other file.

    Returns:
        The paths; that of report.html is the last.
    """
    import matplotlib as mpl

    with mpl.rc_context(figure_style.STYLE):  # type: ignore[arg-type]
        sections = {
            "recall": recall.section(table),
            "confusion": confusion.section(table),
            "training": training.section(table),
            "embeddings": embedding.section(table),
            "spread": centers.spread(table),
            "centers": centers.movement(table),
            "calibration": calibration.section(table),
            "search": search.section(table.search, table.rows),
            "mistakes": mistakes.section(table),
            "again": Section(),
        }
    paths = []
    for picture in (picture for section in sections.values() for picture in section.pictures):
        paths.append(out / FIGURES / f"{picture.name}.svg")
        write_atomic(paths[-1], figure_style.on_paper(picture.svg))
    shown = columns(table)
    report = render(
        TEMPLATES / "report.html.j2",
        table=table,
        columns=shown,
        lines=lines(shown),
        verdict=verdicts.verdict(table),
        contrasts=verdicts.contrasts(table),
        notes=foot(table),
        sections=sections,
        open=OPEN,
        drawn=DRAWN,
        on_page=figure_style.on_page,
    )
    write_atomic(out / REPORT, report)
    return [*paths, out / REPORT]

"""Notes below a table: how its numbers were made, and what a reader has to know about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from fer_lightning.core.files import content_hash
from fer_lightning.core.progress import duration
from fer_lightning.core.templates import render
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.comparisons import contrasts, has_marks, standing
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.analysis.statistics import SEEDS_TO_DECIDE
from fer_lightning.tables.output import search_summary
from fer_lightning.tables.output.formats import DAGGER, EQUAL, TEMPLATES, heading, percent, published


def foot(table: Table) -> list[str]:
    """Return the notes of ``templates/notes.txt.j2``, whose paragraphs are divided by blank lines."""
    optimism = {run.folder: gap for row in table.rows for run, gap in zip(row.runs, row.optimism, strict=False)}
    shown = {naming.parts(metric)[1] for metric in table.metrics}
    text = render(
        TEMPLATES / "notes.txt.j2",
        table=table,
        dagger=DAGGER,
        equal=EQUAL,
        percent=percent,
        seeds_to_decide=SEEDS_TO_DECIDE,
        in_percent=[f"{m.heading}{f' ({m.note})' if m.note else ''}" for m in METRICS.values() if m.percent],
        explained=[
            METRICS[name].note
            for name in METRICS
            if name in shown and METRICS[name].note and not METRICS[name].percent
        ],
        has_corrections=any(naming.parts(metric)[0] for metric in table.metrics),
        has_marks=has_marks(table),
        declared=len(contrasts(table)),
        level_columns=_level_columns(table),
        seeds_only_columns=[
            heading(name) for name in table.metrics if naming.metric_of(name).of_confusion is None
        ],
        without_predictions=[row.method for row in table.present if row.pictures is None],
        fewer_seeds=[f"{row.method} with {row.planned}" for row in table.rows if row.planned < len(table.seeds)],
        published=[f"{r.method}, {published(r)}: {r.published['source']}" for r in table.rows if r.published],
        gaps=[gap for gap in optimism.values() if not math.isnan(gap)],
        searched=search_summary.of_rows(table.search),
        searched_alike=search_summary.keys_tried_alike(table.search),
        has_edges=any(search["edge"] for search in table.search),
        trial_counts=sorted({len(search["points"]) for search in table.search}),
        unsearched_stages=search_summary.unsearched_stages(table),
        protocol_hash=content_hash(table.protocol)[:8],
        provenance={
            "Versions": _counted([provenance.versions for provenance in table.provenance]),
            "Machine": _counted([provenance.machine for provenance in table.provenance]),
        },
        run_time=duration(table.seconds),
    )
    return [*table.notes, *(" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip())]


def _level_columns(table: Table) -> list[str]:
    """Return the headings of the columns in which no row is shown to be worse than the best."""
    standings = {metric: standing(table, metric) for metric in table.metrics}
    return [
        heading(metric)
        for metric, column in standings.items()
        if column and len(column.equal) == len(table.rows) - 1
    ]


def _counted(parts: Sequence[Mapping[str, object]]) -> list[tuple[str, int]]:
    """Return each distinct part of the runs' provenance and its number of runs, the most frequent first."""
    return Counter(", ".join(f"{name} {value}" for name, value in part.items()) for part in parts).most_common()

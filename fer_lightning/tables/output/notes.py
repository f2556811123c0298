"""What stands below a table: how its numbers were made, and what a reader has to know of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from fer_lightning.core.files import content_hash
from fer_lightning.core.progress import duration
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.comparisons import SEEDS_TO_DECIDE, has_marks, standing
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output.formats import DAGGER, EQUAL, heading, percent, published


def foot(table: Table) -> list[str]:
    """What a reader has to know, a paragraph an item."""
    return [
        *table.notes,
        *_about_methods(table),
        *_about_published(table),
        _about_columns(table),
        _about_seeds(table),
        _about_marks(table),
        _about_intervals(table),
        _about_optimism(table),
        *_about_search(table),
        *_about_data(table),
        *_about_provenance(table),
    ]


def _about_methods(table: Table) -> Iterable[str]:
    if any(row.abstract for row in table.rows):
        yield (
            f"{DAGGER} One of the three methods that the abstract of Ngo & Yoon (Sensors 2020, 20(9), 2639) "
            "compares. What the abstract does not state was chosen here."
            + ("" if any(row.published for row in table.rows) else " No number of theirs is in this table.")
        )


def _about_published(table: Table) -> Iterable[str]:
    said = [f"{row.method}, {published(row)}: {row.published['source']}" for row in table.rows if row.published]
    if said:
        yield f"Published by others, not measured here, and not by this protocol: {'; '.join(said)}."


def _about_columns(table: Table) -> str:
    *percents, last = [
        f"{metric.heading[0].lower()}{metric.heading[1:]}{f' ({metric.note})' if metric.note else ''}"
        for metric in METRICS.values()
        if metric.percent
    ]
    in_percent = f"{', '.join(percents)} and {last}"
    shown = {naming.parts(metric)[1] for metric in table.metrics}
    explained = [m.note for name, m in METRICS.items() if name in shown and m.note and not m.percent]
    others = "".join(f"; {text}" for text in explained)
    corrected = (
        " Columns of a correction are of the same runs after it; a dash where the head does not allow it."
        if any(naming.parts(metric)[0] for metric in table.metrics)
        else ""
    )
    return (
        "Mean ± standard deviation (n − 1) over the seeds. "
        f"{in_percent[0].upper()}{in_percent[1:]} in percent{others}.{corrected}"
    )


def _about_seeds(table: Table) -> str:
    text = f"Seeds: {', '.join(map(str, table.seeds))}."
    if table.missing:
        text += f" {table.missing}."
    if fewer := [f"{row.method} with {row.planned}" for row in table.rows if row.planned < len(table.seeds)]:
        text += f" Planned with fewer: {', '.join(fewer)}."
    if table.strays:
        text += f" Results in the folder that belong to no row, left out: {table.strays}."
    return text


def _about_marks(table: Table) -> str:
    if not has_marks(table):
        return (
            f"A row with fewer than {SEEDS_TO_DECIDE} seeds: no value is marked as best, and no difference of "
            "such a row is called decided."
        )
    standings = {metric: standing(table, metric) for metric in table.metrics}
    level = [heading(metric) for metric, one in standings.items() if one and len(one.equal) == len(table.rows) - 1]
    return (
        f"Bold: best mean of its column. {EQUAL}: not shown to be worse than that (paired with it, Holm's "
        "correction over the rows of the column); with 95 % the row that is truly best is one of these."
        + (f" No row is shown to be worse than the best in: {', '.join(level)}." if level else "")
    )


def _about_intervals(table: Table) -> str:
    alone = [heading(metric) for metric in table.metrics if naming.metric_of(metric).of_confusion is None]
    without = [row.method for row in table.present if row.pictures is None]
    said = [
        "Intervals are of 95 % over seeds and test images, which are crossed; class sizes are fixed, and two rows "
        "are paired by seed and image."
    ]
    if alone:
        said.append(f"Over the seeds only: those of {', '.join(alone)}.")
    if without:
        rows = "all rows" if len(without) == len(table.present) else "; ".join(without)
        said.append(f"Over the seeds only, as their runs hold no such predictions: those of {rows}.")
    if table.baseline:
        said.append(f"Over baseline: macro recall minus that of {table.baseline.method}, in points.")
    if len(table.present) > 1:
        said.append(
            "The intervals of the comparisons that the table was made for hold all at once (Bonferroni), p is "
            "Holm's; so it is with those of the highest row, of which one is told at the top."
        )
    said.append(
        f"From the {table.images:,} images alone macro recall has a standard error of "
        f"{percent(table.image_error)} points."
    )
    return " ".join(said)


def _about_optimism(table: Table) -> str:
    by_run = {run.folder: gap for row in table.rows for run, gap in zip(row.runs, row.optimism, strict=False)}
    gaps = [gap for gap in by_run.values() if not math.isnan(gap)]
    if not gaps:
        return "Optimism gap (the best epoch on the test set in place of the minival's choice): not measured."
    return (
        "Optimism gap: the epoch of the last stage that is best on the test set has on average "
        f"{percent(sum(gaps) / len(gaps))} points more macro recall than the one chosen by the minival "
        f"({percent(min(gaps))} to {percent(max(gaps))} over {len(gaps)} runs). No number above uses it."
    )


def _about_search(table: Table) -> Iterable[str]:
    if not table.search:
        return
    counts = sorted({len(one["values"]) for one in table.search})
    chosen = [
        f"{one['method']}: {one['key']}={one['chosen']:g}{', at the edge of its range' if one['edge'] else ''}"
        for one in table.search
    ]
    seeds = f" with seed {', '.join(map(str, table.search_seeds))}" if table.search_seeds else ""
    yield (
        f"Search: {' or '.join(map(str, counts))} values a row{seeds}, chosen by the minival's macro recall; no "
        f"trial saw the test set. Chosen: {'; '.join(chosen)}."
    )


def _about_data(table: Table) -> Iterable[str]:
    said = table.protocol
    classes = said.get("classes", [])
    weights = said.get("backbone_weights")
    size, crop = said.get("size"), said.get("crop")
    seen = f", of which the middle {crop} are seen" if crop not in (None, size) else ""
    views = "; tested on each and its mirror image" if said.get("flip_averaging") else ""
    yield (
        f"Protocol {content_hash(said)[:8]}: {said.get('data')}, {len(classes)} classes ({', '.join(classes)}), "
        f"faces of {size} pixels{seen}{views}, backbone {said.get('backbone')} "
        f"({f'weights {weights[:8]}' if weights else 'random weights'})."
    )
    leaks, excluded, set_aside = table.left_out
    yield (
        f"Training images dropped because they are copies of test images: {leaks:,}. "
        + (f"Left out by data.exclude before that: {excluded:,}. " if excluded else "")
        + f"Files set aside as unusable: {set_aside:,}."
    )


def _about_provenance(table: Table) -> Iterable[str]:
    versions = [_joined(one.versions) for one in table.provenance]
    machines = [_joined(one.machine) for one in table.provenance]
    for name, values in (("Versions", versions), ("Machine", machines)):
        counts = Counter(values)
        if len(counts) == 1:
            yield f"{name}: {values[0]}."
        else:
            listed = "; ".join(
                f"{count} {'run' if count == 1 else 'runs'} with {value}" for value, count in counts.most_common()
            )
            yield f"{name}: mixed. {listed}."
    yield f"Run time of the {len(table.provenance)} runs: {duration(table.seconds)}."


def _joined(said: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said.items())

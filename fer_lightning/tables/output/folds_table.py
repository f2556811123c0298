"""The table over folds as text and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation.metrics import OF_CONFUSION
from fer_lightning.evaluation.resampling import percentile_interval
from fer_lightning.tables.analysis.folds import Method
from fer_lightning.tables.analysis.statistics import simultaneous
from fer_lightning.tables.output.formats import aligned, heading, interval, interval_kind, number, points

TEXT_METRICS = ("accuracy", "macro_recall")
FILE = "folds.csv"


def write(methods: Sequence[Method], directory: Path) -> Path:
    """Write folds.csv, all metrics in full precision, into a folder; return its path."""
    parts = ("fold_mean", "fold_std", "pooled", "pooled_low", "pooled_high")
    rows = [
        ["method", "seeds", "folds", "persons", *(f"{metric}_{part}" for metric in OF_CONFUSION for part in parts)]
    ]
    for method in methods:
        row = [
            method.name,
            str(method.seeds),
            str(method.folds),
            str(len(method.by_person)) if method.known else "",
        ]
        for metric in OF_CONFUSION:
            values = method.fold_values(metric)
            ends = percentile_interval(method.resampled(metric))
            numbers = (values.mean(), values.std(ddof=1), method.pooled(metric), *ends)
            row += [repr(float(value)) for value in numbers]
        rows.append(row)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    write_atomic(directory / FILE, stream.getvalue())
    return directory / FILE


def to_text(methods: Sequence[Method]) -> str:
    """Return the table for the terminal: what was tested, a line a method, and what the numbers are."""
    rows = [["method", "seeds", *(cell for m in TEXT_METRICS for cell in (heading(m).lower(), "pooled [95 %]"))]]
    rows += [_row(method) for method in methods]
    return "\n".join([_what(methods[0]), "", *aligned(rows), "", *_notes(methods)])


def _row(method: Method) -> list[str]:
    cells = [method.name, str(method.seeds)]
    for metric in TEXT_METRICS:
        values, (low, high) = method.fold_values(metric), percentile_interval(method.resampled(metric))
        cells.append(f"{number(metric, float(values.mean()))} ± {number(metric, float(values.std(ddof=1)))}")
        cells.append(f"{number(metric, method.pooled(metric))} [{number(metric, low)}, {number(metric, high)}]")
    return cells


def _what(method: Method) -> str:
    pictures, classes = int(method.by_fold[0].sum()), method.by_fold.shape[-1]
    of_whom = f" of {len(method.by_person):,} persons" if method.known else ""
    return f"{pictures:,} pictures{of_whom} in {classes} classes and {method.folds} folds; each is tested once"


def _notes(methods: Sequence[Method]) -> Iterator[str]:
    yield "Mean ± standard deviation of the folds; pooled: of the pictures of all folds together."
    if methods[0].known:
        yield "The intervals are over persons, drawn with replacement; no person is in two folds."
    else:
        yield (
            "Nobody says who is pictured: the intervals are over pictures, and too narrow where a person has "
            "several; data.group says who it is."
        )
    for method in methods[1:]:
        for metric in TEXT_METRICS:
            yield _difference(metric, method, methods[0], len(methods) - 1)
    if len(methods) > 2:
        yield f"The intervals of the {len(methods) - 1} differences of a metric hold all at once (Bonferroni)."


def _difference(metric: str, method: Method, first: Method, count: int) -> str:
    """Return a sentence on two methods, whose difference is taken over the same resampled persons.

    Args:
        metric: name of the metric.
        method: a method.
        first: method that it is compared with.
        count: number of differences whose intervals hold all at once.
    """
    ends = percentile_interval(method.resampled(metric) - first.resampled(metric), simultaneous(count))
    difference = points(method.pooled(metric) - first.pooled(metric), sign=True)
    return (
        f"{method.name} less {first.name}: {difference} points of {heading(metric).lower()}, "
        f"{interval_kind(count)} {interval(ends, sign=True)}"
    )

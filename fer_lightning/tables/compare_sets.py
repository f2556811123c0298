"""Checkpoints on several test sets in one table: ``fer evaluate CHECKPOINT --on ...``."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation.metrics import METRICS, OF_CONFUSION
from fer_lightning.evaluation.resampling import RESAMPLES, percentile_interval, resampled_confusions
from fer_lightning.evaluation.results import Result
from fer_lightning.tables.output.exports import TEXT_METRICS
from fer_lightning.tables.output.formats import MISSING, aligned, number

NOTE = f"In brackets: 95 % intervals, percentiles of {RESAMPLES:,} resamples of each class's test images."


class Value(NamedTuple):
    """A metric and the ends of its interval over the test images; NaN where there is none."""

    value: float
    low: float
    high: float


class SetRow(NamedTuple):
    """A checkpoint on a test set.

    Attributes:
        checkpoint: its path.
        name: name of the set, unique among the sets of a checkpoint.
        test_split: split of the set that was tested on.
        images: number of test images.
        classes: number of classes with test images.
        known: number of classes that the result has.
        values: values by metric.
    """

    checkpoint: str
    name: str
    test_split: str
    images: int
    classes: int
    known: int
    values: dict[str, Value]


def set_rows(results: Sequence[Result]) -> list[SetRow]:
    """Return a row for each result of ``fer evaluate``."""
    sets = {(str(result.protocol["data"]), _root(result)) for result in results}
    homonyms = Counter(name for name, _ in sets)
    return [_row(result, with_root=homonyms[result.protocol["data"]] > 1) for result in results]


def _root(result: Result) -> str:
    return result.provenance.paths.get("data") or ""


def _row(result: Result, *, with_root: bool) -> SetRow:
    confusion = np.asarray(result.confusion)
    drawn = resampled_confusions(confusion)
    values = {name: Value(value, math.nan, math.nan) for name, value in result.metrics.items()}
    for name in OF_CONFUSION:
        values[name] = Value(result.metrics[name], *percentile_interval(METRICS[name].of_counts(drawn)))
    name = f"{result.protocol['data']} in {_root(result)}" if with_root else str(result.protocol["data"])
    classes = int((confusion.sum(1) > 0).sum())
    split = str(result.protocol["test_split"])
    return SetRow(result.checkpoint or "", name, split, int(confusion.sum()), classes, len(confusion), values)


def write(rows: Sequence[SetRow], folder: Path) -> list[Path]:
    """Write the table as sets.csv and sets.md into a folder. Returns their paths."""
    texts = {"sets.csv": to_csv(rows), "sets.md": to_markdown(rows)}
    for name, text in texts.items():
        write_atomic(folder / name, text)
    return [folder / name for name in texts]


def to_csv(rows: Sequence[SetRow]) -> str:
    """Return all metrics as CSV in full precision; an end of an interval that is unknown is an empty cell."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    parts = [f"{name}{part}" for name in METRICS for part in ("", "_low", "_high")]
    lines.writerow(["checkpoint", "set", "test_split", "images", "classes", "classes_of_result", *parts])
    for row in rows:
        numbers = [number for name in METRICS for number in row.values[name]]
        lines.writerow([*row[:-1], *("" if math.isnan(number) else repr(number) for number in numbers)])
    return stream.getvalue()


def to_markdown(rows: Sequence[SetRow]) -> str:
    """Return the metrics that have an interval as Markdown."""
    head, *body = _cells(rows, OF_CONFUSION)
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in line] for line in body)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", NOTE, ""])


def to_text(rows: Sequence[SetRow]) -> str:
    """Return the main metrics for the terminal."""
    cells = _cells(rows, TEXT_METRICS)
    names = 1 + (len({row.checkpoint for row in rows}) > 1)
    return "\n".join([*aligned(cells, names), NOTE])


def _cells(rows: Sequence[SetRow], metrics: Sequence[str]) -> list[list[str]]:
    """Return the head and the rows of the printed table; the checkpoint's column is there if there are several."""
    several = len({row.checkpoint for row in rows}) > 1
    head = ["set", "images", "classes", *(METRICS[name].heading.lower() for name in metrics)]
    body = [
        [
            f"{row.name}, {row.test_split}",
            f"{row.images:,}",
            str(row.classes) if row.classes == row.known else f"{row.classes} of {row.known}",
            *(_cell(name, row.values[name]) for name in metrics),
        ]
        for row in rows
    ]
    if not several:
        return [head, *body]
    return [["checkpoint", *head], *([row.checkpoint, *cells] for row, cells in zip(rows, body, strict=True))]


def _cell(metric: str, value: Value) -> str:
    low, high = number(metric, value.low), number(metric, value.high)
    shown = number(metric, value.value)
    return shown if MISSING in (low, high) else f"{shown} [{low}, {high}]"

"""A table as CSV, Markdown, LaTeX, HTML, plain text and figure."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fer_lightning.core.files import write_atomic
from fer_lightning.core.templates import render
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.tables.analysis.comparisons import has_marks, own
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output import verdicts
from fer_lightning.tables.output.columns import Column, Entry, columns, lines, marked
from fer_lightning.tables.output.formats import DAGGER, EQUAL, TEMPLATES, heading, method, number, percent, seeds
from fer_lightning.tables.output.notes import foot
from fer_lightning.tables.output.overview_figure import picture as picture

CORRECTED = (
    "Metrics after corrections that follow training, means over the seeds. Each correction is a single number, "
    "fitted on the minival, never on the test set:"
)
TEXT_METRICS = ("accuracy", "macro_recall", "macro_f1", "cohen_kappa")
_TEXT_WIDTH = 100


def write(table: Table, out: Path) -> list[Path]:
    """Write table.csv, table.md, table.tex, table.svg and runs.csv into a folder. Returns their paths."""
    texts = {
        "table.csv": to_csv(table),
        "table.md": to_markdown(table),
        "table.tex": to_latex(table),
        "runs.csv": to_runs_csv(table),
    }
    for name, text in texts.items():
        write_atomic(out / name, text)
    picture(table, out / "table.svg")
    return [out / name for name in (*texts, "table.svg")]


def to_csv(table: Table) -> str:
    """Return all metrics as CSV in full precision; a value that is missing is an empty cell."""
    metrics = list(dict.fromkeys((*METRICS, *table.metrics)))
    table_lines = [
        ["method", "loss", "class_weights", "stage", "seeds", "planned"]
        + [f"{metric}_{part}" for metric in metrics for part in ("mean", "std", "low", "high")]
        + ["optimism_gap_mean", "optimism_gap_low", "optimism_gap_high"]
    ]
    for row in table.rows:
        numbers: list[float] = []
        for metric in metrics:
            estimate = own(row, metric)
            numbers += [estimate.mean, row.std(metric), estimate.low, estimate.high]
        measured = row.optimism[~np.isnan(row.optimism)]
        numbers += [measured.mean(), measured.min(), measured.max()] if len(measured) else [math.nan] * 3
        shown = ["" if math.isnan(number) else repr(float(number)) for number in numbers]
        names = [row.method, row.loss, row.class_weights, row.stage, str(len(row.seeds)), str(row.planned)]
        table_lines.append([*names, *shown])
    return _csv(table_lines)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def to_runs_csv(table: Table) -> str:
    """Return a line for each run as CSV: metrics, recall and drift by class, metrics after corrections."""
    classes = table.protocol["classes"]
    corrections = [(correction, metric) for correction in CORRECTIONS for metric in METRICS]
    head = ["method", "seed", *METRICS, *(f"recall_{n}" for n in classes), *(f"center_drift_{n}" for n in classes)]
    head += [*(f"{correction}_{metric}" for correction, metric in corrections), "optimism_gap"]
    run_lines = []
    for row in table.present:
        drift = [row.center_drift.get(name) for name in classes]
        for k, seed in enumerate(row.seeds):
            numbers = [*(row.values[m] for m in METRICS), *(row.class_recall[n] for n in classes), *drift]
            numbers += [row.corrected[c][m] if c in row.corrected else None for c, m in corrections]
            numbers.append(None if not len(row.optimism) or np.isnan(row.optimism[k]) else row.optimism)
            shown = ["" if values is None else repr(float(values[k])) for values in numbers]
            run_lines.append([row.method, str(seed), *shown])
    return _csv([head, *run_lines])


def to_markdown(table: Table) -> str:
    """Return the table as Markdown, with what it shows above and the notes below."""
    head, body = _lines(table, _md, lambda text: f"**{text}**")
    return render(
        TEMPLATES / "table.md.j2",
        table=table,
        md=_md,
        verdict=verdicts.verdict(table),
        grids=[
            ("", [head, *body]),
            ("Recall by class, mean over the seeds, in percent:", _recall_by_class(table)),
            (CORRECTED, _corrected(table)),
        ],
        contrasts=verdicts.contrasts(table),
        notes=foot(table),
    )


def to_latex(table: Table) -> str:
    """Return the table as LaTeX for a paper; it needs the package booktabs."""
    head, body = _lines(table, _tex, lambda text: rf"\textbf{{{text}}}")
    return render(
        TEMPLATES / "table.tex.j2",
        tex=_tex,
        caption=[f"{table.title.rstrip('.')}.", verdicts.verdict(table), *filter(None, [table.substitute])],
        head=head,
        body=body,
        notes=[*verdicts.contrasts(table), *foot(table)],
    )


def to_html(table: Table) -> str:
    """Return the table as HTML: scopes for names and headings, numbers to sort by.

    Classes of cells: ``best``, ``equal`` (not shown to be worse) and ``missing``.
    """
    shown = columns(table)
    return render(TEMPLATES / "table.html.j2", columns=shown, lines=lines(shown))


def to_text(table: Table) -> str:
    """Return a table for the terminal, at most 100 characters wide; long names are wrapped."""
    marks = {"best": "*", "equal": EQUAL} if has_marks(table) and len(table.rows) > 1 else {}
    shown = [Column("seeds", [Entry(seeds(row)) for row in table.rows])]
    shown += [Column(heading(metric).lower(), marked(table, metric)) for metric in TEXT_METRICS]
    texts = [
        [e.text.partition(" (")[0] + (marks.get(e.mark, " ") if marks else "") for e in column.entries]
        for column in shown
    ]
    body = list(zip(*texts, strict=True))
    head = [column.heading for column in shown]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    room = _TEXT_WIDTH - sum(widths) - 2 * len(widths)
    labels = [textwrap.wrap(method(row), room) or [""] for row in table.rows]
    longest = max(len("method"), *(len(line) for label in labels for line in label))
    text = []
    for label, numbers in zip([["method"], *labels], [head, *body], strict=True):
        aligned = "".join(f"  {number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        text += [f"{label[0]:<{longest}}{aligned}".rstrip(), *label[1:]]
    if marks:
        text.append(f"* best of its column, {EQUAL} not shown to be worse")
    return "\n".join(text)


def _lines(
    table: Table, escape: Callable[[str], str], bold: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows of the printed table, escaped and marked."""
    shown = columns(table)

    def written(entry: Entry) -> str:
        text = escape(entry.text + (EQUAL if entry.mark == "equal" else ""))
        return bold(text) if entry.mark == "best" else text

    body = [[written(entry) for entry in line] for line in lines(shown)]
    return [escape(column.heading) for column in shown], body


def _recall_by_class(table: Table) -> list[list[str]]:
    """Return lines of the recall by class: heading, training images, one line for each row."""
    if not table.present:
        return []
    names = list(table.present[0].class_recall)
    grid = [["Method", *names]]
    if table.train_counts:
        grid.append(["training images", *(f"{table.train_counts.get(name, 0):,}" for name in names)])
    for row in table.present:
        recall = row.mean_class_recall()
        grid.append([_md(method(row)), *(percent(recall[name]) for name in names)])
    return grid


def _corrected(table: Table) -> list[list[str]]:
    """Return lines of the metrics after each correction: heading, one line for each row that has any."""
    rows = [row for row in table.present if row.corrected]
    shown: list[tuple[str, str | None, str]] = []  # heading, correction or None, metric
    for metric in dict.fromkeys(correction.metric for correction in CORRECTIONS.values()):
        shown.append((f"{heading(metric)}, as trained", None, metric))
        shown += [(c.heading, name, metric) for name, c in CORRECTIONS.items() if c.metric == metric]
    grid = [["Method", *(title for title, _, _ in shown)]]
    for row in rows:
        means = []
        for _, correction, metric in shown:
            values = row.values if correction is None else row.corrected.get(correction)
            mean = math.nan if values is None else float(values[metric].mean())
            means.append(number(metric, mean))
        grid.append([_md(method(row)), *means])
    return grid if rows else []


def _md(text: str) -> str:
    return re.sub(r"([|*<`])", r"\\\1", text)


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "]": "{]}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    DAGGER: r"\textdagger{}",
    EQUAL: r"$^{=}$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)

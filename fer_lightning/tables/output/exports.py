"""A table as CSV, Markdown, LaTeX, HTML, plain text and picture. Every number in them is one of ``stats``."""

from __future__ import annotations

import csv
import html
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.tables.analysis.comparisons import has_marks, own
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.output import verdicts
from fer_lightning.tables.output.columns import Column, Entry, columns, marked
from fer_lightning.tables.output.formats import DAGGER, EQUAL, heading, method, number, percent, seeds
from fer_lightning.tables.output.notes import foot
from fer_lightning.tables.output.overview_figure import picture as picture

CORRECTED = (
    "Corrected after training, means over the seeds; each correction is one number, fitted on the minival, never "
    "on the test set:"
)
CONTRASTS = "The comparisons this table was made for, in macro recall:"
_TEXT_METRICS = ("accuracy", "macro_recall", "macro_f1", "cohen_kappa")
_TEXT_WIDTH = 100


def write(table: Table, out: Path) -> list[Path]:
    """Write table.csv, table.md, table.tex, table.svg and runs.csv into a folder; returns their paths."""
    made = {
        "table.csv": to_csv(table),
        "table.md": to_markdown(table),
        "table.tex": to_latex(table),
        "runs.csv": to_runs_csv(table),
    }
    for name, text in made.items():
        write_atomic(out / name, text)
    picture(table, out / "table.svg")
    return [out / name for name in (*made, "table.svg")]


def to_csv(table: Table) -> str:
    """All metrics in full precision, for programs; a value that is not there is an empty cell."""
    metrics = list(dict.fromkeys((*METRICS, *table.metrics)))
    lines = [
        ["method", "loss", "class_weights", "stage", "seeds", "planned"]
        + [f"{metric}_{part}" for metric in metrics for part in ("mean", "std", "low", "high")]
        + ["optimism_gap_mean", "optimism_gap_low", "optimism_gap_high"]
    ]
    for row in table.rows:
        numbers: list[float] = []
        for metric in metrics:
            found = own(row, metric)
            numbers += [found.mean, row.std(metric), found.low, found.high]
        measured = row.optimism[~np.isnan(row.optimism)]
        numbers += [measured.mean(), measured.min(), measured.max()] if len(measured) else [math.nan] * 3
        shown = ["" if math.isnan(number) else repr(float(number)) for number in numbers]
        told = [row.method, row.loss, row.class_weights, row.stage, str(len(row.seeds)), str(row.planned)]
        lines.append([*told, *shown])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def to_runs_csv(table: Table) -> str:
    """Every run on a line of its own: metrics, recall and drift by class, metrics after each correction."""
    classes = table.protocol["classes"]
    corrections = [(correction, metric) for correction in CORRECTIONS for metric in METRICS]
    head = ["method", "seed", *METRICS, *(f"recall_{n}" for n in classes), *(f"center_drift_{n}" for n in classes)]
    head += [*(f"{correction}_{metric}" for correction, metric in corrections), "optimism_gap"]
    lines = []
    for row in table.present:
        drift = [row.center_drift.get(name) for name in classes]
        for k, seed in enumerate(row.seeds):
            numbers = [*(row.values[m] for m in METRICS), *(row.class_recall[n] for n in classes), *drift]
            numbers += [row.corrected[c][m] if c in row.corrected else None for c, m in corrections]
            numbers.append(None if not len(row.optimism) or np.isnan(row.optimism[k]) else row.optimism)
            shown = ["" if values is None else repr(float(values[k])) for values in numbers]
            lines.append([row.method, str(seed), *shown])
    return _csv([head, *lines])


def to_markdown(table: Table) -> str:
    """The table with what it shows said above it and what a reader has to know below it."""
    head, body = _lines(table, _md, lambda text: f"**{text}**")
    parts = [f"# {_md(table.title)}", _md(verdicts.verdict(table))]
    if table.substitute:
        parts.append(_md(table.substitute))
    parts.append(_md_table(head, body))
    if recall := _recall_by_class(table):
        parts += ["Recall by class, mean over the seeds, in percent:", _md_table(recall[0], recall[1:])]
    if corrected := _corrected(table):
        parts += [CORRECTED, _md_table(corrected[0], corrected[1:])]
    if contrasts := verdicts.contrasts(table):
        parts += [CONTRASTS, "\n".join(f"- {_md(line)}" for line in contrasts)]
    parts += ["Notes:", "\n".join(f"- {_md(line)}" for line in foot(table))]
    return "\n\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """The same table for a paper; needs the package booktabs."""
    head, body = _lines(table, _tex, lambda text: rf"\textbf{{{text}}}")
    rows = [rf"{' & '.join(line)} \\" for line in (head, *body)]
    caption = " ".join(filter(None, (f"{table.title.rstrip('.')}.", verdicts.verdict(table), table.substitute)))
    notes = "\n".join(rf"{_tex(line)}\par" for line in (*verdicts.contrasts(table), *foot(table)))
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\medskip\footnotesize\raggedright",
            notes,
            r"\end{table}",
            "",
        ]
    )


def to_html(table: Table) -> str:
    """The table alone, for a page: a row's name and the headings have their scope, numbers what they sort by.

    Classes of cells: ``best``, ``equal`` (not shown to be worse) and ``missing``.
    """
    shown = columns(table)
    head = "".join(f'<th scope="col">{html.escape(column.heading)}</th>' for column in shown)
    lines = [
        f'<tr><th scope="row">{html.escape(name.text)}</th>{"".join(map(_td, entries))}</tr>'
        for name, *entries in zip(*(column.entries for column in shown), strict=True)
    ]
    return "\n".join(["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>", *lines, "</tbody>", "</table>", ""])


def _td(entry: Entry) -> str:
    kind = f' class="{entry.mark}"' if entry.mark else ""
    key = "" if math.isnan(entry.value) else f' data-sort="{entry.value!r}"'
    mark = "<sup>=</sup>" if entry.mark == "equal" else ""  # EQUAL is too small on a screen
    return f"<td{kind}{key}>{html.escape(entry.text)}{mark}</td>"


def to_text(table: Table) -> str:
    """A compact table of at most 100 characters a line for the terminal; long labels are wrapped."""
    marks = {"best": "*", "equal": EQUAL} if has_marks(table) and len(table.rows) > 1 else {}
    shown = [Column("seeds", [Entry(seeds(row)) for row in table.rows])]
    shown += [Column(heading(metric).lower(), marked(table, metric)) for metric in _TEXT_METRICS]
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
    lines = []
    for label, numbers in zip([["method"], *labels], [head, *body], strict=True):
        aligned = "".join(f"  {number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        lines += [f"{label[0]:<{longest}}{aligned}".rstrip(), *label[1:]]
    if marks:
        lines.append(f"* best of its column, {EQUAL} not shown to be worse")
    return "\n".join(lines)


def _lines(
    table: Table, escape: Callable[[str], str], bold: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the printed table, escaped and marked."""
    shown = columns(table)

    def written(entry: Entry) -> str:
        text = escape(entry.text + (EQUAL if entry.mark == "equal" else ""))
        return bold(text) if entry.mark == "best" else text

    body = [[written(entry) for entry in line] for line in zip(*(c.entries for c in shown), strict=True)]
    return [escape(column.heading) for column in shown], body


def _recall_by_class(table: Table) -> list[list[str]]:
    """Lines of the recall by class: heading, training images, one line a row."""
    if not table.present:
        return []
    names = list(table.present[0].class_recall)
    lines = [["Method", *names]]
    if table.train_counts:
        lines.append(["training images", *(f"{table.train_counts.get(name, 0):,}" for name in names)])
    for row in table.present:
        recall = row.mean_class_recall()
        lines.append([_md(method(row)), *(percent(recall[name]) for name in names)])
    return lines


def _corrected(table: Table) -> list[list[str]]:
    """Lines of what each row would have after each correction: heading, one line a row; none without any."""
    rows = [row for row in table.present if row.corrected]
    shown: list[tuple[str, str | None, str]] = []  # heading, correction or None, metric
    for metric in dict.fromkeys(correction.metric for correction in CORRECTIONS.values()):
        shown.append((f"{heading(metric)}, as trained", None, metric))
        shown += [(c.heading, name, metric) for name, c in CORRECTIONS.items() if c.metric == metric]
    lines = [["Method", *(title for title, _, _ in shown)]]
    for row in rows:
        means = []
        for _, correction, metric in shown:
            values = row.values if correction is None else row.corrected.get(correction)
            mean = math.nan if values is None else float(values[metric].mean())
            means.append(number(metric, mean))
        lines.append([_md(method(row)), *means])
    return lines if rows else []


def _md(text: str) -> str:
    return re.sub(r"([|*<`])", r"\\\1", text)


def _md_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


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

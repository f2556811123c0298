"""A table as CSV, Markdown, LaTeX, plain text and picture. Every number in them is one of ``stats``."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_lightning.cache import write_atomic
from fer_lightning.contracts import METRICS, POSTHOC
from fer_lightning.table import words
from fer_lightning.table.picture import picture as picture
from fer_lightning.table.rows import Row, Table, difference
from fer_lightning.table.stats import half_width_with_images
from fer_lightning.table.words import DAGGER, MISSING, cell, percent

HEADINGS = {
    "accuracy": "Accuracy",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "cohen_kappa": "Kappa",
    "krippendorff_alpha": "Alpha",
    "auroc": "AUROC",
    "average_precision": "AP",
    "ece": "ECE",
}
CORRECTED = (
    "Corrected after training, means over the seeds; each correction is one number, fitted on the minival, never "
    "on the test set:"
)
_CORRECTIONS = (
    ("Macro recall, as trained", None, "macro_recall"),
    ("logit adjustment", "logit_adjustment", "macro_recall"),
    ("tau-norm", "tau_norm", "macro_recall"),
    ("ECE, as trained", None, "ece"),
    ("temperature", "temperature", "ece"),
)
CONTRASTS = "The comparisons this table was made for, in macro recall:"
_TEXT_METRICS = ("accuracy", "macro_recall", "macro_f1", "cohen_kappa")
_TEXT_WIDTH = 100
_LOWER_IS_BETTER = {"ece"}


def write(table: Table, out: Path) -> list[Path]:
    """Write table.csv, table.md, table.tex, table.svg and cells.csv into a folder; returns their paths."""
    made = {
        "table.csv": to_csv(table),
        "table.md": to_markdown(table),
        "table.tex": to_latex(table),
        "cells.csv": to_cells_csv(table),
    }
    for name, text in made.items():
        write_atomic(out / name, text)
    picture(table, out / "table.svg")
    return [out / name for name in (*made, "table.svg")]


def to_csv(table: Table) -> str:
    """All metrics in full precision, for programs; a value that is not there is an empty cell."""
    columns = [f"{metric}_{part}" for metric in METRICS for part in ("mean", "std")]
    lines = [["method", "loss", "class_weights", "stage", "seeds", *columns]]
    for row in table.rows:
        numbers = [number for metric in METRICS for number in (row.mean(metric), row.std(metric))]
        shown = ["" if math.isnan(number) else repr(number) for number in numbers]
        lines.append([row.method, row.loss, row.class_weights, row.stage, str(len(row.seeds)), *shown])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def to_cells_csv(table: Table) -> str:
    """Every cell on a line of its own: metrics, recall and drift by class, metrics after each correction."""
    classes = table.protocol["classes"]
    corrections = [(correction, metric) for correction in POSTHOC for metric in METRICS]
    head = ["method", "seed", *METRICS, *(f"recall_{n}" for n in classes), *(f"center_drift_{n}" for n in classes)]
    head += [f"{correction}_{metric}" for correction, metric in corrections]
    lines = []
    for row in table.present:
        drift = [row.center_drift.get(name) for name in classes]
        for k, seed in enumerate(row.seeds):
            numbers = [*(row.values[m] for m in METRICS), *(row.class_recall[n] for n in classes), *drift]
            numbers += [row.corrected[c][m] if c in row.corrected else None for c, m in corrections]
            shown = ["" if values is None else repr(float(values[k])) for values in numbers]
            lines.append([row.method, str(seed), *shown])
    return _csv([head, *lines])


def to_markdown(table: Table) -> str:
    """The table with what it shows said above it and what a reader has to know below it."""
    head, body = _columns(table, _md, lambda text: f"**{text}**")
    parts = [f"# {_md(table.title)}", _md(words.verdict(table))]
    if table.substitute:
        parts.append(_md(table.substitute))
    parts.append(_md_table(head, body))
    if recall := _recall_by_class(table):
        parts += ["Recall by class, mean over the seeds, in percent:", _md_table(recall[0], recall[1:])]
    if corrected := _corrected(table):
        parts += [CORRECTED, _md_table(corrected[0], corrected[1:])]
    if contrasts := words.contrasts(table):
        parts += [CONTRASTS, "\n".join(f"- {_md(line)}" for line in contrasts)]
    parts += ["Notes:", "\n".join(f"- {_md(line)}" for line in words.foot(table))]
    return "\n\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """The same table for a paper; needs the package booktabs."""
    head, body = _columns(table, _tex, lambda text: rf"\textbf{{{text}}}")
    rows = [rf"{' & '.join(line)} \\" for line in (head, *body)]
    caption = " ".join(filter(None, (f"{table.title.rstrip('.')}.", words.verdict(table), table.substitute)))
    notes = "\n".join(rf"{_tex(line)}\par" for line in (*words.contrasts(table), *words.foot(table)))
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


def to_text(table: Table) -> str:
    """A compact table of at most 100 characters a line for the terminal; long labels are wrapped."""
    head = ["", "seeds", *(HEADINGS[metric].lower() for metric in _TEXT_METRICS)]
    body = [[_seeds(row), *(cell(row, metric) for metric in _TEXT_METRICS)] for row in table.rows]
    widths = [max(len(line[k]) for line in (head[1:], *body)) for k in range(len(head) - 1)]
    room = _TEXT_WIDTH - sum(widths) - 2 * len(widths)
    labels = [textwrap.wrap(_method(row), room) or [""] for row in table.rows]
    longest = max(len("method"), *(len(line) for label in labels for line in label))
    lines = []
    for label, numbers in zip([["method"], *labels], [head[1:], *body], strict=True):
        aligned = "".join(f"  {number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        lines += [f"{label[0]:<{longest}}{aligned}", *label[1:]]
    return "\n".join(lines)


def _columns(
    table: Table, escape: Callable[[str], str], bold: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the printed table, escaped."""
    base = table.baseline
    best = {metric: _clearly_best(table, metric) for metric in table.metrics}
    head = ["Method", *(HEADINGS[metric] for metric in table.metrics), "Seeds"]
    body = []
    for row in table.rows:
        numbers = [escape(cell(row, metric)) for metric in table.metrics]
        marked = [bold(n) if best[m] is row else n for m, n in zip(table.metrics, numbers, strict=True)]
        body.append([escape(_method(row)), *marked, escape(_seeds(row))])
    if any(len(row.seeds) > 1 for row in table.rows):
        head.insert(-1, escape("± 95 % (seeds, images)"))
        for line, row in zip(body, table.rows, strict=True):
            line.insert(-1, escape(_with_images(row)))
    if base and len(table.present) > 1:
        head.insert(-1, escape("Over baseline [95 %]"))
        for line, row in zip(body, table.rows, strict=True):
            line.insert(-1, escape(_over(row, base)))
    return head, body


def _with_images(row: Row) -> str:
    """Half of the interval over seeds and test images, in points."""
    return percent(half_width_with_images(row.values["macro_recall"], row.image_error))


def _over(row: Row, base: Row) -> str:
    """Paired difference from the baseline in points, with its interval where there is one."""
    if row is base:
        return "baseline"
    if not row.seeds:
        return MISSING
    gap = difference(row, base)
    bounds = "" if math.isnan(gap.low) else f" [{percent(gap.low, sign=True)}, {percent(gap.high, sign=True)}]"
    return f"{percent(gap.mean, sign=True)}{bounds}"


def _clearly_best(table: Table, metric: str) -> Row | None:
    """The best row of a column where five seeds or more show it to differ from the next one."""
    sign = -1 if metric in _LOWER_IS_BETTER else 1
    ranked = sorted(table.present, key=lambda row: sign * row.mean(metric), reverse=True)
    if len(ranked) < 2 or not words.marks(table):
        return None
    return ranked[0] if difference(ranked[0], ranked[1], metric).shown else None


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
        lines.append([_md(_method(row)), *(percent(recall[name]) for name in names)])
    return lines


def _corrected(table: Table) -> list[list[str]]:
    """Lines of what each row would have after each correction: heading, one line a row; none without any."""
    rows = [row for row in table.present if row.corrected]
    lines = [["Method", *(heading for heading, _, _ in _CORRECTIONS)]]
    for row in rows:
        means = []
        for _, correction, metric in _CORRECTIONS:
            values = row.values if correction is None else row.corrected.get(correction)
            mean = math.nan if values is None else float(values[metric].mean())
            means.append(percent(mean) if metric in words.IN_PERCENT else words.decimal(mean))
        lines.append([_md(_method(row)), *means])
    return lines if rows else []


def _method(row: Row) -> str:
    return f"{row.method} {DAGGER}" if row.abstract else row.method


def _seeds(row: Row) -> str:
    return str(len(row.seeds)) if len(row.seeds) == row.planned else f"{len(row.seeds)} of {row.planned}"


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
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)

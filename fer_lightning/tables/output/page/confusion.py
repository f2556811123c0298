"""Confusion matrices: one row's, or the difference of two, chosen on the page."""

from __future__ import annotations

import json
import math

import numpy as np

from fer_lightning.core.html import text
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.formats import MISSING
from fer_lightning.tables.output.page.section import Section, over_seeds

DATA = "confusions"
"""The id of the matrices in the page, which page.js reads."""


def section(table: Table) -> Section:
    """The first row's matrix as a table, and all of them for the script that changes it."""
    name, title = "confusion", "Confusion matrices"
    rows = table.present
    if not rows:
        return Section(name, title, ["There is no result yet."])
    classes: list[str] = table.protocol["classes"]
    shares = [share(row) for row in rows]
    options = "".join(f'<option value="{k}">{text(row.method)}</option>' for k, row in enumerate(rows))
    choice = (
        f'<p class="choice" hidden><label>Row <select id="confusion-row">{options}</select></label> <label>minus '
        f'<select id="confusion-minus"><option value="">nothing</option>{options}</select></label></p>'
        "<noscript><p>Without JavaScript only the first row's matrix can be seen.</p></noscript>"
    )
    matrix = _matrix(rows[0].method, classes, shares[0])
    markup = f"{choice}{matrix}{_data(rows, shares)}" if len(rows) > 1 else matrix
    note = (
        "Percent of the images of a true class that are predicted as each class, mean over the seeds. In a "
        "difference of two rows a plus on the diagonal is recall gained; beside it, a mistake made more often."
    )
    return Section(name, title, [note], markup=markup)


def share(row: Row) -> FloatArray:
    """(C, C) shares of the predictions of each true class, mean over the seeds; NaN for one without images."""
    found = []
    for run in row.runs:
        scores = run.result if row.posthoc is None else (run.result.posthoc or {})[row.posthoc]
        counts = np.asarray(scores.confusion, dtype=np.float64)
        sizes = counts.sum(1, keepdims=True)
        found.append(np.divide(counts, sizes, out=np.full_like(counts, np.nan), where=sizes > 0))
    return over_seeds(np.stack(found))[0]


def _matrix(method: str, classes: list[str], shares: FloatArray) -> str:
    """The table; page.js writes other numbers into its cells."""
    head = "".join(f'<th scope="col"><span>{text(name)}</span></th>' for name in classes)
    lines = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(map(_cell, values))}</tr>'
        for name, values in zip(classes, shares.tolist(), strict=True)
    )
    return (
        '<div class="card scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        '<table id="confusion-matrix">'
        f'<caption aria-live="polite">{text(method)}, percent of each true class</caption>'
        f'<thead><tr><th scope="col">true ↓ predicted →</th>{head}</tr></thead><tbody>{lines}</tbody>'
        "</table></div>"
    )


def _cell(value: float) -> str:
    if math.isnan(value):
        return f"<td>{MISSING}</td>"
    return f'<td style="--share:{100 * value:.1f}">{100 * value:.1f}</td>'


def _data(rows: list[Row], shares: list[FloatArray]) -> str:
    """The matrices in percent as JSON that cannot end its element."""
    told = [
        {
            "method": row.method,
            "percent": [[None if math.isnan(v) else round(100 * v, 2) for v in line] for line in values.tolist()],
        }
        for row, values in zip(rows, shares, strict=True)
    ]
    content = json.dumps(told, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{DATA}">{content}</script>'

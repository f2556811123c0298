"""Confusion matrices of all rows; the page shows one of them, or the difference of two."""

from __future__ import annotations

import math

import numpy as np

from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.page.section import Section, over_seeds


def section(table: Table) -> Section:
    """Return the matrices in percent, which the template shows and page.js chooses from."""
    matrices = [
        {
            "method": row.method,
            "percent": [
                [None if math.isnan(value) else round(100 * value, 4) for value in line]
                for line in share(row).tolist()
            ],
        }
        for row in table.present
    ]
    return Section(facts={"matrices": matrices})


def share(row: Row) -> FloatArray:
    """Return the (C, C) shares of the predictions of each true class, mean over the seeds.

    They are NaN for a class without images.
    """
    shares = []
    for run in row.runs:
        scores = run.result if row.posthoc is None else (run.result.posthoc or {})[row.posthoc]
        counts = np.asarray(scores.confusion, dtype=np.float64)
        sizes = counts.sum(1, keepdims=True)
        shares.append(np.divide(counts, sizes, out=np.full_like(counts, np.nan), where=sizes > 0))
    return over_seeds(np.stack(shares))[0]

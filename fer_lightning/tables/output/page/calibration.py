"""Reliability diagrams: how often a prediction is right, by its probability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_lightning.core import colours
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.formats import decimal
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.probabilities import Probabilities, probabilities
from fer_lightning.tables.output.page.section import Picture, Section, Trained, figures_by_row

BINS = 15


class Reliability(NamedTuple):
    """A run's predictions by confidence, (BINS,) each; means of an empty bin are NaN."""

    counts: npt.NDArray[np.int64]
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """Return the expected calibration error (Guo et al. 2017, eq. 3)."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gaps * self.counts).sum() / self.counts.sum())


def reliability(predictions: Probabilities) -> Reliability:
    """Return the predictions in equal bins of their highest probability; the first bin holds 0, the last 1."""
    highest = predictions.values.max(1)
    right = predictions.values.argmax(1) == predictions.labels
    bins = np.minimum((highest * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (highest, right))
    confidence, accuracy = (np.divide(s, counts, out=np.full(BINS, np.nan), where=counts > 0) for s in sums)
    return Reliability(counts, confidence, accuracy)


def section(table: Table) -> Section:
    """Return a reliability diagram for each trained row, without corrections after training."""
    return figures_by_row(table, lambda row: _read(table.directory, row), _picture, bins=BINS)


def _read(directory: Path, row: Trained) -> list[Reliability]:
    by_run = (probabilities(directory / run.folder, run.result.classes) for run in row.runs)
    return [reliability(predictions) for predictions in by_run if predictions is not None]


def _picture(index: int, row: Trained, by_run: Sequence[Reliability]) -> Picture:
    counts = np.stack([run.counts for run in by_run])
    hits = np.nansum(np.stack([run.counts * run.accuracy for run in by_run]), axis=0)
    sums = np.nansum(np.stack([run.counts * run.confidence for run in by_run]), axis=0)
    filled = counts.sum(0) > 0
    confidence, accuracy = (part[filled] / counts.sum(0)[filled] for part in (sums, hits))
    figure = figure_style.figure(4.0)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.6, 1]})
    above.plot([0, 100], [0, 100], "--", color=figure_style.GREY, linewidth=1)
    for run in by_run:
        above.plot(100 * run.confidence, 100 * run.accuracy, "o", color=colours.ORANGE, markersize=3.5)
    above.plot(100 * confidence, 100 * accuracy, "D-", color=colours.BLUE, markersize=5)
    above.set_ylabel("right, percent")
    middles = 100 * (np.arange(BINS) + 0.5) / BINS
    below.bar(middles, counts.mean(0), width=0.86 * 100 / BINS, color=colours.SKY)
    below.set_ylabel("images")
    below.set_xlabel("highest probability, percent")
    below.set_xlim(0, 100)
    eces = [run.ece for run in by_run]
    extremes = f" ({decimal(min(eces))} to {decimal(max(eces))})" if len(eces) > 1 else ""
    caption = f"ECE {decimal(float(np.mean(eces)))}{extremes}."
    total = counts.sum()
    description = (
        f"{row.method}: {caption} Mean highest probability {100 * sums.sum() / total:.1f} percent, "
        f"right {100 * hits.sum() / total:.1f} percent."
    )
    return figure_style.row_picture("calibration", index, row.method, caption, description, figure)

"""Reliability: how often a prediction is right, by how sure it was."""

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
from fer_lightning.tables.output.page.section import Picture, Section, Trained, slug, trained

BINS = 15


class Reliability(NamedTuple):
    """A run's predictions by confidence, (BINS,) each; means of an empty bin are NaN."""

    counts: npt.NDArray[np.int64]
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3)."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gaps * self.counts).sum() / self.counts.sum())


def reliability(told: Probabilities) -> Reliability:
    """Equal bins of the highest probability: the first holds 0, the last 1."""
    sure = told.values.max(1)
    right = told.values.argmax(1) == told.labels
    place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, weights=values, minlength=BINS) for values in (sure, right))
    confidence, accuracy = (np.divide(s, counts, out=np.full(BINS, np.nan), where=counts > 0) for s in sums)
    return Reliability(counts, confidence, accuracy)


def section(table: Table) -> Section:
    """A picture a row, as trained."""
    name, title = "calibration", "Reliability"
    rows = [(row, _read(table.directory, row)) for row in trained(table)]
    shown = [(row, found) for row, found in rows if found]
    if not shown:
        return Section(name, title, ["The predictions of these results are not there (predictions.parquet)."])
    sentences = [
        f"As trained, {BINS} bins of the highest probability. Above: how often those predictions are right, a dot "
        "a seed, line: all seeds; on the diagonal they are right as often as they say. Below: how many images are "
        "in each bin, mean over the seeds. ECE: expected calibration error."
    ]
    if gone := [row.method for row, found in rows if not found]:
        sentences.append(f"Without predictions: {', '.join(gone)}.")
    return Section(name, title, sentences, [_picture(k, row, found) for k, (row, found) in enumerate(shown)])


def _read(directory: Path, row: Trained) -> list[Reliability]:
    told = (probabilities(directory / run.folder, run.result.classes) for run in row.runs)
    return [reliability(one) for one in told if one is not None]


def _picture(place: int, row: Trained, found: Sequence[Reliability]) -> Picture:
    counts = np.stack([one.counts for one in found])
    hits = np.nansum(np.stack([one.counts * one.accuracy for one in found]), axis=0)
    sums = np.nansum(np.stack([one.counts * one.confidence for one in found]), axis=0)
    filled = counts.sum(0) > 0
    confidence, accuracy = (part[filled] / counts.sum(0)[filled] for part in (sums, hits))
    drawn = figure_style.figure(4.0)
    above, below = drawn.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.6, 1]})
    above.plot([0, 100], [0, 100], "--", color=figure_style.GREY, linewidth=1)
    for one in found:
        above.plot(100 * one.confidence, 100 * one.accuracy, "o", color=colours.ORANGE, markersize=3.5)
    above.plot(100 * confidence, 100 * accuracy, "D-", color=colours.BLUE, markersize=5)
    above.set_ylabel("right, percent")
    middles = 100 * (np.arange(BINS) + 0.5) / BINS
    below.bar(middles, counts.mean(0), width=0.86 * 100 / BINS, color=colours.SKY)
    below.set_ylabel("images")
    below.set_xlabel("highest probability, percent")
    below.set_xlim(0, 100)
    eces = [one.ece for one in found]
    ece = f"ECE {decimal(float(np.mean(eces)))}" + (
        f" ({decimal(min(eces))} to {decimal(max(eces))})" if len(eces) > 1 else ""
    )
    sure, right = (part * counts.sum(0)[filled] for part in (confidence, accuracy))
    total = counts.sum()
    seen = (
        f"{row.method}: {ece}. Mean highest probability {100 * sure.sum() / total:.1f} percent, "
        f"right {100 * right.sum() / total:.1f} percent."
    )
    return Picture(f"calibration-{slug(place, row.method)}", row.method, f"{ece}.", seen, figure_style.svg(drawn))

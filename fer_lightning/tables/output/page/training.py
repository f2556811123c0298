"""Training curves: the loss and its parts, and macro recall on the minival and on the test set."""

from __future__ import annotations

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.output.formats import decimal, percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.history import History
from fer_lightning.tables.output.page.section import Picture, Section, Trained, over_seeds, trained

LOSS = "train/loss"
PARTS = {
    LOSS: ("loss", figure_style.INK),
    "train/cross_entropy": ("cross-entropy", colours.BLUE),
    "train/center_term": ("center term × lambda", colours.VERMILLION),
    "train/penalty": ("penalty", colours.ORANGE),
}
MINIVAL, TEST = "minival/macro_recall", "test/macro_recall"


def section(table: Table) -> Section:
    """Return a figure for each row with the loss above and macro recall below, on one scale of macro recall."""
    rows = [(row, History(row.runs)) for row in trained(table)]
    shown = [(row, history) for row, history in rows if history.has(LOSS) or history.has(MINIVAL)]
    recalls = [history.values(key).ravel() for _, history in shown for key in (MINIVAL, TEST)]
    known = np.concatenate([*recalls, []])
    known = known[~np.isnan(known)]
    limits = (100 * known.min() - 2, 100 * known.max() + 2) if len(known) else (0.0, 100.0)
    return Section(
        [_picture(k, row, history, limits) for k, (row, history) in enumerate(shown)],
        [row.method for row, history in rows if (row, history) not in shown],
        {"tested": any(history.has(TEST) for _, history in shown)},
    )


def _picture(index: int, row: Trained, history: History, limits: tuple[float, float]) -> Picture:
    figure = figure_style.figure(4.6)
    losses, recalls = figure.subplots(2, 1, sharex=True)
    for key, (label, colour) in PARTS.items():
        values = history.values(key)
        if key == LOSS or not (np.isnan(values) | (values == 0) | (values == history.values(LOSS))).all():
            width = 2.4 if key == LOSS else 1.4
            history.line(losses, key, band=True, label=label, color=colour, linewidth=width)
    history.line(recalls, MINIVAL, scale=100, band=True, label="minival", color=colours.GREEN)
    label = "test, never chosen by"
    history.line(recalls, TEST, scale=100, label=label, color=colours.PURPLE, linestyle="--", linewidth=1.1)
    chosen = [epoch for stage in history.chosen() for epoch in stage if 0 < epoch <= len(history.epochs)]
    marker = {"color": colours.GREEN, "markersize": 6, "clip_on": False, "zorder": 4}
    recalls.plot(chosen, np.full(len(chosen), limits[0]), "^", **marker)
    history.mark_stages(losses)
    history.mark_stages(recalls, named=False)
    losses.set_ylabel("training loss")
    losses.set_ylim(bottom=0)
    recalls.set_xlabel("epoch")
    recalls.set_ylabel("macro recall, %")
    recalls.set_ylim(*limits)
    figure_style.legend_below(figure, [losses, recalls], 2)
    gap = _optimism_gap(row.row)
    description = f"{_describe(row, history)} {gap}"
    return figure_style.row_picture("training", index, row.method, gap, description, figure)


def _optimism_gap(row: Row) -> str:
    gaps = row.optimism[~np.isnan(row.optimism)]
    if not len(gaps):
        return "The optimism gap was not measured."
    mean, low, high = (percent(float(value), sign=True) for value in (gaps.mean(), gaps.min(), gaps.max()))
    return f"Optimism gap: {mean} points{f' ({low} to {high})' if len(gaps) > 1 else ''}."


def _describe(row: Trained, history: History) -> str:
    parts = []
    for key, name, write in ((LOSS, "training loss", decimal), (MINIVAL, "minival macro recall", percent)):
        mean, *_ = over_seeds(history.values(key))
        known = mean[~np.isnan(mean)]
        if len(known):
            parts.append(f"{name} from {write(float(known[0]))} to {write(float(known[-1]))}")
    return f"{row.method}, {len(history.epochs)} epochs: {', '.join(parts)}."

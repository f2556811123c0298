"""Training curves: the loss and its parts, the minival's macro recall, and what the test set would have said."""

from __future__ import annotations

import numpy as np

from fer_lightning.core import colours
from fer_lightning.tables.analysis.rows import Row, Table
from fer_lightning.tables.output.formats import decimal, percent
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.history import History
from fer_lightning.tables.output.page.section import SPREAD, Picture, Section, Trained, over_seeds, slug, trained

LOSS = "train/loss"
PARTS = {
    LOSS: ("loss", figure_style.INK),
    "train/cross_entropy": ("cross-entropy", colours.BLUE),
    "train/center_term": ("center term × lambda", colours.VERMILLION),
    "train/penalty": ("penalty", colours.ORANGE),
}
MINIVAL, TEST = "minival/macro_recall", "test/macro_recall"


def section(table: Table) -> Section:
    """A picture a row: the loss above, macro recall below."""
    name, title = "training", "Training"
    rows = [(row, History(row.runs)) for row in trained(table)]
    shown = [(row, told) for row, told in rows if told.has(LOSS) or told.has(MINIVAL)]
    if not shown:
        return Section(name, title, ["These results were written without a history of their epochs."])
    recalls = np.concatenate([told.values(key).ravel() for _, told in shown for key in (MINIVAL, TEST)])
    known = recalls[~np.isnan(recalls)]
    limits = (100 * known.min() - 2, 100 * known.max() + 2) if len(known) else (0.0, 100.0)
    pictures = [_picture(k, row, told, limits) for k, (row, told) in enumerate(shown)]
    sentences = [
        f"Means over the seeds; bands: {SPREAD}. Dotted: where the next stage begins. Triangles: the epochs that "
        "were kept, chosen by the minival."
    ]
    if any(told.has(TEST) for _, told in shown):
        sentences.append(
            "The thin dashed line is the test set, looked at after each epoch, never chosen by. The optimism gap "
            "is what choosing by it would have added: its best epoch minus the one that the minival chose."
        )
    if gone := [row.method for row, told in rows if (row, told) not in shown]:
        sentences.append(f"Without a history: {', '.join(gone)}.")
    return Section(name, title, sentences, pictures)


def _picture(place: int, row: Trained, told: History, limits: tuple[float, float]) -> Picture:
    drawn = figure_style.figure(4.6)
    losses, recalls = drawn.subplots(2, 1, sharex=True)
    for key, (label, colour) in PARTS.items():
        values = told.values(key)
        whole = key == LOSS
        if whole or not (np.isnan(values) | (values == 0) | (values == told.values(LOSS))).all():
            told.line(losses, key, band=True, label=label, color=colour, linewidth=2.4 if whole else 1.4)
    told.line(recalls, MINIVAL, scale=100, band=True, label="minival", color=colours.GREEN)
    test = "test, never chosen by"
    told.line(recalls, TEST, scale=100, label=test, color=colours.PURPLE, linestyle="--", linewidth=1.1)
    kept = [epoch for stage in told.chosen() for epoch in stage if 0 < epoch <= len(told.epochs)]
    recalls.plot(
        kept, np.full(len(kept), limits[0]), "^", color=colours.GREEN, markersize=6, clip_on=False, zorder=4
    )
    told.mark_stages(losses)
    told.mark_stages(recalls, named=False)
    losses.set_ylabel("training loss")
    losses.set_ylim(bottom=0)
    recalls.set_xlabel("epoch")
    recalls.set_ylabel("macro recall, %")
    recalls.set_ylim(*limits)
    figure_style.legend_below(drawn, [losses, recalls], 2)
    told_gap = _gap(row.row)
    name = f"training-{slug(place, row.method)}"
    return Picture(name, row.method, told_gap, f"{_seen(row, told)} {told_gap}", figure_style.svg(drawn))


def _gap(row: Row) -> str:
    gaps = row.optimism[~np.isnan(row.optimism)]
    if not len(gaps):
        return "Optimism gap: not measured."
    mean, low, high = (percent(float(value), sign=True) for value in (gaps.mean(), gaps.min(), gaps.max()))
    return f"Optimism gap: {mean} points{f' ({low} to {high})' if len(gaps) > 1 else ''}."


def _seen(row: Trained, told: History) -> str:
    parts = []
    for key, what, write in ((LOSS, "training loss", decimal), (MINIVAL, "minival macro recall", percent)):
        mean, *_ = over_seeds(told.values(key))
        known = mean[~np.isnan(mean)]
        if len(known):
            parts.append(f"{what} from {write(float(known[0]))} to {write(float(known[-1]))}")
    return f"{row.method}, {len(told.epochs)} epochs: {', '.join(parts)}."

"""Draws experiments/results/dashboard.svg: how to lay out a workspace for the runs of a folder.

    python experiments/benchmarks/dashboard.py runs/embedded experiments/results/dashboard.svg

The folder needs runs with class weights, one of them with cluster loss, and trials of loss.weight.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation import results
from fer_lightning.training.loggers import run_summary
from fer_lightning.training.loggers.run_figures import COLOURS, MARKERS

RARE = "contempt"
GREY, LINE, PAPER = "#5A6270", "#D5DAE1", "#F4F6F9"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fer",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
}
Result = results.Result | results.TrialResult
Groups = dict[str, list[results.Result]]


def read(folder: Path) -> tuple[Groups, list[results.TrialResult], Path]:
    """Results by loss and class weights, the trials, and the folder of a weighted cluster run."""
    groups: Groups = defaultdict(list)
    shown = folder
    for path in sorted(folder.glob(f"*/{results.RESULT}")):
        result = results.read(path.parent)
        if result is None or _is_exact(result):
            continue
        name = group_of(result)
        groups[name].append(result)
        if name == "cluster, min_over_count":
            shown = path.parent
    read_trials = [
        results.read_trial(path.parent) for path in sorted(folder.glob(f"{results.TRIALS}/*/{results.TRIAL}"))
    ]
    trials = [
        trial for trial in read_trials if trial and "weight" in trial.config["loss"] and not _is_exact(trial)
    ]
    return dict(sorted(groups.items())), trials, shown


def _is_exact(result: Result) -> bool:
    return result.config["loss"].get("center_update") == "exact"


def group_of(result: Result) -> str:
    """What runs are grouped by."""
    choices = result.config["choices"]
    return f"{choices['loss']}, {choices['class_weights']}"


def curve(panel: Axes, groups: Groups, name: str, *, log: bool = False) -> None:
    """A scalar against the epoch: a group's mean and range over its seeds, the stages' border dotted."""
    for k, (group, members) in enumerate(groups.items()):
        runs = [dict(run_summary.epochs([*map(asdict, result.stages)])) for result in members]
        epochs = [epoch for epoch, values in runs[0].items() if name in values]
        if not epochs:
            continue
        values = np.array([[run[epoch][name] for epoch in epochs] for run in runs])
        look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        panel.plot(epochs, values.mean(0), markersize=3, linewidth=1.3, label=group, **look)
        panel.fill_between(epochs, values.min(0), values.max(0), color=look["color"], alpha=0.15, linewidth=0)
    stages = next(iter(groups.values()))[0].stages
    for border in np.cumsum([stage.epochs for stage in stages])[:-1]:
        panel.axvline(border - 0.5, color=GREY, linestyle=":", linewidth=1)
    panel.set_xlim(-0.4, sum(stage.epochs for stage in stages) - 0.6)
    panel.set_xlabel("epoch", color=GREY)
    if log:
        panel.set_yscale("log")
    title(panel, name)


def title(panel: Axes, name: str, what: str = "") -> None:
    """What a panel shows, and of which runs."""
    panel.set_title(f"{name}{' · ' + what if what else ''}", loc="left", fontsize=8.5)


def parallel(panel: Axes, trials: list[results.TrialResult]) -> None:
    """Parallel coordinates of the trials: loss, lambda, score; the higher the score, the darker."""
    losses = sorted({group_of(trial) for trial in trials})
    weights = [math.log10(trial.config["loss"]["weight"]) for trial in trials]
    scores = [trial.minival_macro_recall for trial in trials]
    heights = np.column_stack(
        [
            [(losses.index(group_of(trial)) + 0.5) / len(losses) for trial in trials],
            _unit(weights),
            _unit(scores),
        ]
    )
    for line, score in zip(heights, _unit(scores), strict=True):
        panel.plot(range(3), line, color=mpl.colormaps["cividis_r"](0.15 + 0.85 * score), linewidth=1.4)
    for place in range(3):
        panel.axvline(place, color=GREY, linewidth=0.8)
    for k, name in enumerate(losses):
        panel.text(-0.04, (k + 0.5) / len(losses), name, ha="right", va="center", color=GREY)
    label: dict[str, Any] = {"va": "center", "color": "black", "bbox": {"fc": "white", "ec": "none", "pad": 0.8}}
    for place, values, form in ((1, [10**w for w in weights], "{:g}"), (2, scores, "{:.3f}")):
        panel.text(place + 0.03, 0, form.format(min(values)), **label)
        panel.text(place + 0.03, 1, form.format(max(values)), **label)
    panel.set_xticks(range(3), ["loss, class weights", "loss.weight (log)", "minival/macro_recall"])
    panel.set_xlim(-0.6, 2.3)
    panel.set_ylim(-0.08, 1.08)
    panel.set_yticks([])
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.tick_params(axis="x", length=0)
    title(panel, "parallel coordinates", "job_type = tune")


def _unit(values: list[float]) -> np.ndarray:
    found = np.array(values, dtype=np.float64)
    return (found - found.min()) / max(float(np.ptp(found)), 1e-12)


def bars(panel: Axes, groups: Groups) -> None:
    """The chosen model's test score by group, and the optimism behind it."""
    for k, members in enumerate(groups.values()):
        told = [run_summary.summary(result) for result in members]
        score = 100 * float(np.mean([one["test/macro_recall"] for one in told]))
        more = 100 * float(np.mean([one.get("optimism", 0.0) for one in told]))
        panel.barh(k, score, color=COLOURS[k % len(COLOURS)], alpha=0.45, height=0.65)
        panel.barh(
            k, more, left=score, color="white", edgecolor=COLOURS[k % len(COLOURS)], hatch="////", height=0.65
        )
        panel.text(score + more + 1, k, f"{score:.1f}", va="center", color=GREY)
        panel.text(1.5, k, list(groups)[k], va="center")
    panel.set_yticks([])
    panel.set_ylim(len(groups) - 0.5, -0.5)
    panel.set_xlim(0, 100)
    panel.set_xlabel("percent; hatched: optimism", color=GREY)
    title(panel, "test/macro_recall")


def embeddings(panel: Axes, run: Path, classes: list[str]) -> None:
    """A run's picture, as it stands among its media."""
    from fer_lightning.training.loggers import run_figures

    with np.load(run / results.EMBEDDINGS) as arrays:
        made = run_figures.embeddings(
            arrays["embeddings"], arrays["labels"], classes, arrays["class_means"], arrays.get("centers")
        )
    panel.imshow(run_figures.pixels(made), interpolation="lanczos")
    panel.axis("off")
    title(panel, "test/embeddings", "a run's media")


def numbers(panel: Axes, folder: Path, groups: Groups) -> None:
    """The beginning of the table run's table."""
    panel.axis("off")
    title(panel, "table", "job_type = table; its notes are table.md")
    rows = []
    for group, members in groups.items():
        told = [one.metrics for one in members]
        rows.append([group, str(len(told)), *(f"{100 * np.mean([m[k] for m in told]):.1f}" for k in METRICS)])
    made = panel.table(
        rows, colLabels=["method", "seeds", *METRICS], loc="upper left", cellLoc="right", edges="horizontal",
        colWidths=[0.36, 0.1, 0.18, 0.2, 0.16],
    )  # fmt: skip
    made.auto_set_font_size(False)
    made.set_fontsize(8)
    made.scale(1, 1.25)
    for (row, column), entry in made.get_celld().items():
        entry.set_edgecolor(LINE)
        entry.get_text().set_color(GREY if row == 0 else "black")
        if column == 0:
            entry.get_text().set_horizontalalignment("left")


METRICS = ("accuracy", "macro_recall", "macro_f1")
SECTIONS = ("minival and train", "centers", "search", "result")


def draw(folder: Path) -> Figure:
    """The workspace: a section a line."""
    groups, trials, run = read(folder)
    one = next(iter(groups.values()))[0]
    figure = Figure(figsize=(11.5, 11.8), facecolor=PAPER)
    grid = figure.add_gridspec(
        4, 3, left=0.065, right=0.975, top=0.875, bottom=0.045, hspace=0.58, wspace=0.3,
        height_ratios=[1, 1.45, 1, 1],
    )  # fmt: skip
    curve(figure.add_subplot(grid[0, 0]), groups, "minival/macro_recall")
    curve(figure.add_subplot(grid[0, 1]), groups, "train/cross_entropy")
    curve(figure.add_subplot(grid[0, 2]), groups, "train/center_term", log=True)
    curve(figure.add_subplot(grid[1, 0]), groups, f"center_drift/{RARE}")
    curve(figure.add_subplot(grid[1, 1]), groups, f"center_spread/{RARE}")
    embeddings(figure.add_subplot(grid[1, 2]), run, one.classes)
    parallel(figure.add_subplot(grid[2, :2]), trials)
    sensitivity(figure.add_subplot(grid[2, 2]), trials, list(groups))
    bars(figure.add_subplot(grid[3, 0]), groups)
    numbers(figure.add_subplot(grid[3, 1:]), folder, groups)
    for k, name in enumerate(SECTIONS):
        boxes = [axes.get_position() for axes in figure.axes if axes.get_subplotspec().rowspan.start == k]
        low, high = min(box.y0 for box in boxes), max(box.y1 for box in boxes)
        _card(figure, low - 0.034, high + 0.02)
        figure.text(0.014, high + 0.026, name, fontsize=10, weight="bold")
    figure.text(0.014, 0.972, f"fer_lightning / {run_summary.group_of(folder, one.protocol)}", fontsize=13)
    said = "filter: job_type is not tune or table · group by: choices.loss, choices.class_weights · x axis: epoch"
    figure.text(0.014, 0.952, said, fontsize=9, color=GREY)
    handles, names = figure.axes[0].get_legend_handles_labels()
    look = {"frameon": False, "fontsize": 8, "handlelength": 1.6, "columnspacing": 1.1}
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0.008, 0.945), ncols=len(names), **look)
    return figure


def sensitivity(panel: Axes, trials: list[results.TrialResult], groups: list[str]) -> None:
    """Lambda against the minival's score, mean over seeds, a line a group."""
    for group in sorted({group_of(trial) for trial in trials}):
        scores = defaultdict(list)
        for trial in trials:
            if group_of(trial) == group:
                scores[trial.config["loss"]["weight"]].append(100 * trial.minival_macro_recall)
        points = [(weight, float(np.mean(scores[weight]))) for weight in sorted(scores)]
        k = groups.index(group) if group in groups else 0
        look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        panel.plot(*zip(*points, strict=True), markersize=4, label=group, **look)
    panel.set_xscale("log")
    panel.set_xlabel("loss.weight (lambda)", color=GREY)
    title(panel, "minival/macro_recall", "percent, job_type = tune")


def _card(figure: Figure, low: float, high: float) -> None:
    box = FancyBboxPatch(
        (0.014, low), 0.974, high - low, boxstyle="round,pad=0,rounding_size=0.006", transform=figure.transFigure,
        facecolor="white", edgecolor=LINE, linewidth=0.8, zorder=-10,
    )  # fmt: skip
    figure.add_artist(box)


if __name__ == "__main__":
    import io

    source, target = map(Path, sys.argv[1:3])
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        draw(source).savefig(stream, format="svg", metadata={"Date": None}, facecolor=PAPER)
    write_atomic(target, stream.getvalue())

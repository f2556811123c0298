"""The scalars that the runs of a row logged after each epoch, on one axis over all stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.statistics import FloatArray
from fer_lightning.tables.output.page import figure_style
from fer_lightning.tables.output.page.section import over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class History:
    """The epochs of runs that went through the same stages.

    Args:
        runs: the runs of one row.

    Attributes:
        stages: names of the stages.
        lengths: number of epochs of each stage, in the run with the most.
        starts: first epoch of each stage, counted from 1.
        epochs: (E,) 1, 2, ... over all stages.
    """

    def __init__(self, runs: Sequence[FinishedRun]) -> None:
        by_run = [run.result.stages for run in runs]
        longest = max(by_run, key=len, default=[])
        self.stages = [stage.name for stage in longest]
        self._epochs = [[stage.history for stage in stages] for stages in by_run]
        self._chosen = [[stage.best_epoch for stage in stages] for stages in by_run]
        self.lengths = [
            max(len(stages[k]) if k < len(stages) else 0 for stages in self._epochs) for k in range(len(longest))
        ]
        self.starts = [1 + before for before in accumulate([0, *self.lengths])][: len(longest)]
        self.epochs = np.arange(1, sum(self.lengths) + 1, dtype=np.float64)

    def values(self, key: str) -> FloatArray:
        """Return a scalar of each run after each epoch, (S, E); NaN where it was not logged."""
        values = np.full((len(self._epochs), len(self.epochs)), np.nan)
        for line, stages in zip(values, self._epochs, strict=True):
            for start, epochs in zip(self.starts, stages, strict=False):
                for k, epoch in enumerate(epochs):
                    value = epoch.get(key)
                    line[start - 1 + k] = math.nan if value is None else value
        return values

    def line(self, panel: Axes, key: str, *, scale: float = 1, band: bool = False, **style: Any) -> None:
        """Draw means over the seeds, a line for each stage; with a band from the lowest to the highest seed.

        A stage of one epoch is a point with a bar.
        """
        mean, low, high = over_seeds(scale * self.values(key))
        for start, length in zip(self.starts, self.lengths, strict=True):
            stage = slice(start - 1, start - 1 + length)
            if np.isnan(mean[stage]).all():
                continue
            point: dict[str, Any] = {"marker": "o", "markersize": 4} if length == 1 else {}
            panel.plot(self.epochs[stage], mean[stage], **{**point, **style})
            style.pop("label", None)
            if band and point:
                panel.vlines(self.epochs[stage], low[stage], high[stage], style["color"], alpha=0.4, linewidth=2)
            elif band:
                band_style = {"color": style["color"], "alpha": 0.18, "linewidth": 0}
                panel.fill_between(self.epochs[stage], low[stage], high[stage], **band_style)

    def mark_stages(self, panel: Axes, *, named: bool = True, first: float = 1) -> None:
        """Draw a dotted line between stages, with their names above and whole epochs below.

        Args:
            panel: where to draw.
            named: whether to write the names of the stages.
            first: first epoch to show.
        """
        from matplotlib.ticker import MaxNLocator

        for start, length, name in zip(self.starts, self.lengths, self.stages, strict=True):
            if start + length <= first or not length:
                continue
            if start > first:
                panel.axvline(start - 0.5, color=figure_style.INK, linestyle=":", linewidth=1)
            if named and len(self.stages) > 1:
                position = (max(start, first) - 0.45, 1.02)
                panel.annotate(name.replace("_", " "), position, xycoords=("data", "axes fraction"), fontsize=9)
        panel.set_xlim(first - 0.5, max(first, len(self.epochs)) + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))

    def has(self, key: str) -> bool:
        """Return whether any run logged a scalar."""
        return any(key in epoch for stages in self._epochs for epochs in stages for epoch in epochs)

    def first(self, key: str) -> float:
        """Return the first epoch after which any run logged a scalar."""
        return float(self.epochs[~np.isnan(self.values(key)).all(0)][0])

    def keys(self, prefix: str) -> list[str]:
        """Return the names of the scalars with a prefix, without it, in the order of their logging."""
        keys = (key for stages in self._epochs for epochs in stages for epoch in epochs for key in epoch)
        return list(dict.fromkeys(key.removeprefix(prefix) for key in keys if key.startswith(prefix)))

    def chosen(self) -> list[list[int]]:
        """Return the epoch that each run kept, a list for each stage, counted from 1 over all stages."""
        return [
            [start + stages[k] for stages in self._chosen if k < len(stages)]
            for k, start in enumerate(self.starts)
        ]

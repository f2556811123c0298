"""What the runs of a row wrote down after each epoch, on one axis over all stages."""

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
    """The epochs of some runs that went through the same stages.

    Args:
        runs: of one row.

    Attributes:
        stages: their names.
        lengths: epochs of each stage, of the run that took most.
        starts: the epoch that each stage begins with, from 1.
        epochs: (E,) 1, 2, ... over all stages.
    """

    def __init__(self, runs: Sequence[FinishedRun]) -> None:
        told = [run.result.stages for run in runs]
        longest = max(told, key=len, default=[])
        self.stages = [stage.name for stage in longest]
        self._epochs = [[stage.history for stage in stages] for stages in told]
        self._chosen = [[stage.best_epoch for stage in stages] for stages in told]
        self.lengths = [
            max(len(stages[k]) if k < len(stages) else 0 for stages in self._epochs) for k in range(len(longest))
        ]
        self.starts = [1 + before for before in accumulate([0, *self.lengths])][: len(longest)]
        self.epochs = np.arange(1, sum(self.lengths) + 1, dtype=np.float64)

    def values(self, key: str) -> FloatArray:
        """(S, E) a scalar of each run after each epoch; NaN where it was not written down."""
        found = np.full((len(self._epochs), len(self.epochs)), np.nan)
        for line, stages in zip(found, self._epochs, strict=True):
            for start, epochs in zip(self.starts, stages, strict=False):
                for k, epoch in enumerate(epochs):
                    value = epoch.get(key)
                    line[start - 1 + k] = math.nan if value is None else value
        return found

    def line(self, panel: Axes, key: str, *, scale: float = 1, band: bool = False, **look: Any) -> None:
        """Draw means over the seeds, a line a stage; with a band from the lowest to the highest seed."""
        mean, low, high = over_seeds(scale * self.values(key))
        for start, length in zip(self.starts, self.lengths, strict=True):
            stage = slice(start - 1, start - 1 + length)
            if np.isnan(mean[stage]).all():
                continue
            panel.plot(self.epochs[stage], mean[stage], **look)
            look.pop("label", None)
            if band:
                colour = look["color"]
                panel.fill_between(
                    self.epochs[stage], low[stage], high[stage], color=colour, alpha=0.18, linewidth=0
                )

    def mark_stages(self, panel: Axes, *, named: bool = True, first: float = 1) -> None:
        """A dotted line between two stages, their names on top, whole epochs below, from the first to be shown."""
        from matplotlib.ticker import MaxNLocator

        for start, length, name in zip(self.starts, self.lengths, self.stages, strict=True):
            if start + length <= first or not length:
                continue
            if start > first:
                panel.axvline(start - 0.5, color=figure_style.INK, linestyle=":", linewidth=1)
            if named and len(self.stages) > 1:
                where = (max(start, first) - 0.45, 1.02)
                panel.annotate(name.replace("_", " "), where, xycoords=("data", "axes fraction"), fontsize=9)
        panel.set_xlim(first - 0.5, max(first, len(self.epochs)) + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))

    def has(self, key: str) -> bool:
        """Whether any run wrote it down."""
        return any(key in epoch for stages in self._epochs for epochs in stages for epoch in epochs)

    def first(self, key: str) -> float:
        """The first epoch that any run wrote it down after."""
        return float(self.epochs[~np.isnan(self.values(key)).all(0)][0])

    def keys(self, prefix: str) -> list[str]:
        """What was written down under a prefix, in order, without it."""
        found = (key for stages in self._epochs for epochs in stages for epoch in epochs for key in epoch)
        return list(dict.fromkeys(key.removeprefix(prefix) for key in found if key.startswith(prefix)))

    def chosen(self) -> list[list[int]]:
        """The epoch each run kept, a list a stage, from 1 over all stages."""
        return [
            [start + stages[k] for stages in self._chosen if k < len(stages)]
            for k, start in enumerate(self.starts)
        ]

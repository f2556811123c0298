"""What the cells of a row wrote down after each epoch, on one axis over all stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from fer_lightning.table.cells import Cell
from fer_lightning.table.stats import FloatArray

Epochs = list[dict[str, float]]


class History:
    """The epochs of some cells that went through the same stages.

    Args:
        cells: of one row.

    Attributes:
        stages: their names.
        lengths: epochs of each stage, of the cell that took most.
        starts: the epoch that each stage begins with, from 1.
        epochs: (E,) 1, 2, ... over all stages.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        told = [cell.result.get("stages") or [] for cell in cells]
        longest = max(told, key=len, default=[])
        self.stages = [str(stage.get("name", k + 1)) for k, stage in enumerate(longest)]
        self._epochs = [[stage.get("history") or [] for stage in stages] for stages in told]
        self._chosen = [[stage.get("best_epoch") for stage in stages] for stages in told]
        self.lengths = [
            max(len(stages[k]) if k < len(stages) else 0 for stages in self._epochs) for k in range(len(longest))
        ]
        self.starts = [1 + before for before in accumulate([0, *self.lengths])][: len(longest)]
        self.epochs = np.arange(1, sum(self.lengths) + 1, dtype=np.float64)

    def values(self, key: str) -> FloatArray:
        """(S, E) a scalar of each cell after each epoch; NaN where it was not written down."""
        found = np.full((len(self._epochs), len(self.epochs)), np.nan)
        for line, stages in zip(found, self._epochs, strict=True):
            for start, epochs in zip(self.starts, stages, strict=False):
                for k, epoch in enumerate(epochs):
                    value = epoch.get(key)
                    line[start - 1 + k] = math.nan if value is None else value
        return found

    def has(self, key: str) -> bool:
        """Whether any cell wrote it down."""
        return any(key in epoch for stages in self._epochs for epochs in stages for epoch in epochs)

    def keys(self, prefix: str) -> list[str]:
        """What was written down under a prefix, in order, without it."""
        found = (key for stages in self._epochs for epochs in stages for epoch in epochs for key in epoch)
        return list(dict.fromkeys(key.removeprefix(prefix) for key in found if key.startswith(prefix)))

    def chosen(self) -> list[list[int]]:
        """The epoch each cell kept, a list a stage, from 1 over all stages."""
        return [
            [start + stages[k] for stages in self._chosen if k < len(stages) and stages[k] is not None]
            for k, start in enumerate(self.starts)
        ]

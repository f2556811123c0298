"""``fer train -m``: the cells that a command line spans."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import UserError
from fer_lightning.sweep.cells import Planned
from fer_lightning.sweep.planner import Planner

log = logging.getLogger(__name__)


def plan(combinations: Sequence[Sequence[str]], planner: Planner, base: Path) -> list[Planned]:
    """The cells of a grid; of those that are the same experiment in other words, the first.

    Raises:
        UserError: an override of one does not fit the configuration; data or weights of all are missing.
    """
    for words in combinations:  # a misspelt one is found before anything is prepared or trained
        planner.compose(words)
    labels = _labels(combinations)
    planned = [_planned(words, label, planner, base) for words, label in zip(combinations, labels, strict=True)]
    if all(cell.error for cell in planned):
        raise UserError(planned[0].error)
    return _without_twins(planned, planner)


def _planned(words: Sequence[str], label: str, planner: Planner, base: Path) -> Planned:
    try:
        return planner.planned(words, base, label)
    except UserError as error:
        return Planned(tuple(words), base, label, error=str(error))


def _labels(combinations: Sequence[Sequence[str]]) -> list[str]:
    """The words of each cell that it does not share with all others."""
    shared = set(combinations[0]).intersection(*map(set, combinations)) if len(combinations) > 1 else set()
    return [" ".join(word for word in words if word not in shared) or "the cell" for words in combinations]


def _without_twins(planned: Sequence[Planned], planner: Planner) -> list[Planned]:
    """All cells but those that would train what an earlier one does; says which, also up to a factor."""
    cells = [cell for cell in planned if not cell.error]
    if all(cell.is_done() for cell in cells):
        return list(planned)
    left_out = set()
    for place, cell in enumerate(cells):
        own = planner.objective(cell.words)
        for other in cells[:place]:
            if other.directory == cell.directory or other.directory in left_out:
                continue
            factor = planner.objective(other.words).factor_to(own)
            if factor == 1:
                log.info("not trained: %s is the same experiment as %s", cell.label, other.label)
                left_out.add(cell.directory)
                break
            if factor is not None:
                log.warning(
                    "note: %s is %s up to a constant, %.3g times the loss", cell.label, other.label, factor
                )
    return [cell for cell in planned if cell.error or cell.directory not in left_out]

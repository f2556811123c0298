"""The runs of a grid, as ``fer train -m`` plans them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.planner import Planner

log = logging.getLogger(__name__)


def plan(combinations: Sequence[Sequence[str]], planner: Planner, base: Path) -> list[PlannedRun]:
    """Plan the runs of a grid; of runs that are the same experiment in other words, keep the first.

    Args:
        combinations: the overrides of each run.
        planner: composes the runs and names their folders.
        base: the folder of the runs.

    Raises:
        UserError: an override does not fit the configuration, or the first run cannot be set up.
    """
    for words in combinations:  # a misspelt override is reported before anything is prepared or trained
        planner.compose(words)
    planner.planned(combinations[0], base)  # missing data or weights are reported once, before the other runs
    labels = _labels(combinations)
    planned = [_planned(words, label, planner, base) for words, label in zip(combinations, labels, strict=True)]
    if all(run.error or run.is_done() for run in planned):
        return planned
    return _without_duplicates(planned, planner)


def _planned(words: Sequence[str], label: str, planner: Planner, base: Path) -> PlannedRun:
    try:
        return planner.planned(words, base, label)
    except UserError as error:
        return PlannedRun(tuple(words), base, label, error=str(error))


def _labels(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return a label for each run: the words that it does not share with all others."""
    shared = set(combinations[0]).intersection(*map(set, combinations))
    return [" ".join(word for word in words if word not in shared) for words in combinations]


def _without_duplicates(planned: Sequence[PlannedRun], planner: Planner) -> list[PlannedRun]:
    """Drop the runs that are the same experiment as an earlier one; log these, and those equal up to a factor."""
    # imports torch, which a complete sweep does not need
    from fer_lightning.sweeps.same_experiment import Distinct

    distinct_runs, objectives = [], Distinct[PlannedRun]()
    for run in planned:
        try:
            match = None if run.error else objectives.add(run, planner.objective(run.words))
        except UserError as error:  # the loss refuses a number
            run, match = replace(run, error=str(error)), None
        if match:
            earlier, factor = match
            if factor == 1 and earlier.directory != run.directory:
                log.info("not trained: %s is the same experiment as %s", run.label, earlier.label)
                continue
            if factor != 1:
                log.warning(
                    "notice: %s is %s up to a constant, %.3g times the loss", run.label, earlier.label, factor
                )
        distinct_runs.append(run)
    return distinct_runs

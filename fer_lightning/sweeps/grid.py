"""``fer train -m``: the runs that a command line spans."""

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
    """The runs of a grid; of those that are the same experiment in other words, the first.

    Raises:
        UserError: an override of one does not fit the configuration; the first cannot be set up.
    """
    for words in combinations:  # a misspelt one is found before anything is prepared or trained
        planner.compose(words)
    planner.planned(combinations[0], base)  # data or weights that are missing are said once, and now
    labels = _labels(combinations)
    planned = [_planned(words, label, planner, base) for words, label in zip(combinations, labels, strict=True)]
    if all(run.error or run.is_done() for run in planned):
        return planned
    return _without_twins(planned, planner)


def _planned(words: Sequence[str], label: str, planner: Planner, base: Path) -> PlannedRun:
    try:
        return planner.planned(words, base, label)
    except UserError as error:
        return PlannedRun(tuple(words), base, label, error=str(error))


def _labels(combinations: Sequence[Sequence[str]]) -> list[str]:
    """The words of each run that it does not share with all others; none where there is only one."""
    shared = set(combinations[0]).intersection(*map(set, combinations))
    return [" ".join(word for word in words if word not in shared) for words in combinations]


def _without_twins(planned: Sequence[PlannedRun], planner: Planner) -> list[PlannedRun]:
    """All runs but those that would train what an earlier one does; says which, also up to a factor."""
    from fer_lightning.sweeps.same_experiment import Distinct  # torch, which a sweep that is complete needs not

    kept, seen = [], Distinct[PlannedRun]()
    for run in planned:
        try:
            same = None if run.error else seen.add(run, planner.objective(run.words))
        except UserError as error:  # a number that its loss refuses
            run, same = replace(run, error=str(error)), None
        if same and same[1] == 1 and same[0].directory != run.directory:
            log.info("not trained: %s is the same experiment as %s", run.label, same[0].label)
            continue
        if same and same[1] != 1:
            log.warning(
                "notice: %s is %s up to a constant, %.3g times the loss", run.label, same[0].label, same[1]
            )
        kept.append(run)
    return kept

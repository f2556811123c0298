"""Two checkpoints on the same test pictures: ``fer table compare``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.tables.analysis.predictions import AS_TRAINED, Answers, read
from fer_lightning.tables.analysis.read_runs import FinishedRun, describe_difference
from fer_lightning.tables.analysis.statistics import mcnemar
from fer_lightning.tables.output.formats import p_value, percent


def compare(first: Path, second: Path) -> str:
    """Return McNemar's test of the checkpoints in two runs' folders, in words.

    Raises:
        UserError: a folder has no result or no predictions, or the protocols differ.
    """
    runs = [_run(folder) for folder in (first, second)]
    if differs := describe_difference(runs):
        raise UserError(f"{first} and {second}: tested by different protocols: {differs}")
    answers = [_answers(folder, run) for folder, run in zip((first, second), runs, strict=True)]
    if not answers[0].ids.equals(answers[1].ids):
        raise UserError(f"{first} and {second}: not tested on the same pictures")
    right = [run.predictions[AS_TRAINED] == run.labels for run in answers]
    test = mcnemar(*right)
    lines = [
        f"{percent(float(np.mean(row)))} % accuracy: {run.folder}" for row, run in zip(right, runs, strict=True)
    ]
    return "\n".join(
        [
            *lines,
            f"Of {len(right[0]):,} test pictures {test.both:,} are right in both, {test.first:,} in the first "
            f"only, {test.second:,} in the second only, {test.neither:,} in neither.",
            f"McNemar's exact test, two-sided: {p_value(test.p)}.",
            "This compares two checkpoints, not methods: two seeds of one method may differ as much. Methods are "
            "compared over seeds, by a table's contrasts.",
        ]
    )


def _run(folder: Path) -> FinishedRun:
    result = results.read(folder)
    if result is None:
        raise UserError(f"{folder}: no result.json there; give the folder of a complete run")
    return FinishedRun(folder.resolve().name, result)


def _answers(folder: Path, run: FinishedRun) -> Answers:
    answers = read(folder.resolve().parent, run)
    if answers is None:
        raise UserError(f"{folder}: no {results.PREDICTIONS} there; start the run again to have it")
    return answers

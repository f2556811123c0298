"""Table over folds: every picture of a set is tested once, by a model that has not seen its person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.results import PREDICTIONS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.predictions import AS_TRAINED, Answers, read
from fer_lightning.tables.analysis.read_runs import FinishedRun, read_runs
from fer_lightning.tables.analysis.statistics import FloatArray, IntArray, resampled_sums

_OF_A_FOLD = ("faces", "minival", "test_split")  # keys of the protocol that differ from fold to fold


@dataclass(frozen=True)
class Method:
    """The runs of one method over all folds.

    Attributes:
        name: label of the method.
        seeds: number of seeds.
        folds: number of folds F.
        by_fold: confusion matrices (S, F, C, C).
        by_person: confusion matrices (P, S, C, C) of the persons, in one order for all methods; of the pictures
            where nobody says who is pictured.
        known: whether the persons are known.
    """

    name: str
    seeds: int
    folds: int
    by_fold: IntArray
    by_person: IntArray
    known: bool

    def fold_values(self, metric: str) -> FloatArray:
        """Return a metric of each fold (F,), the mean over the seeds."""
        values: FloatArray = METRICS[metric].of_counts(self.by_fold).mean(0)
        return values

    def pooled(self, metric: str) -> float:
        """Return a metric over the pictures of all folds together, the mean over the seeds."""
        return float(METRICS[metric].of_counts(self.by_person.sum(0)).mean())

    def resampled(self, metric: str) -> FloatArray:
        """Return the pooled metric of resampled persons (B,), who are the same for all methods of a table."""
        values: FloatArray = METRICS[metric].of_counts(self._resampled_counts).mean(1)
        return values

    @cached_property
    def _resampled_counts(self) -> IntArray:
        return resampled_sums(self.by_person)


def load(directory: Path) -> list[Method]:
    """Read the methods of a folder whose runs were tested on folds.

    Raises:
        UserError: no run was, folds are missing, or the runs belong to several data sets or divisions.
    """
    runs = [run for run in read_runs(directory) if run.result.config.get("data", {}).get("folds")]
    if not runs:
        raise UserError(
            f"{directory}: no run was tested on a fold; train them with data.folds=10 data.fold=0,1,...,9 first"
        )
    methods: dict[str, list[FinishedRun]] = {}
    for run in runs:
        methods.setdefault(_method(run), []).append(run)
    names = naming.labels([_without_fold(method[0].result.config) for method in methods.values()])
    return _same_pictures(
        directory, [_read(directory, *named) for named in zip(names, methods.values(), strict=True)]
    )


def _without_fold(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "data": {**config["data"], "fold": 0}}


def _method(run: FinishedRun) -> str:
    protocol = {key: value for key, value in run.result.protocol.items() if key not in _OF_A_FOLD}
    return identity.setting(_without_fold(run.result.config), protocol)


def _read(directory: Path, name: str, runs: Sequence[FinishedRun]) -> tuple[Method, object]:
    """Return a method, and what must be equal for methods of one table: the ids and the faces of all folds."""
    folds = runs[0].result.config["data"]["folds"]
    by_place = {(run.result.seed, run.result.config["data"]["fold"]): run for run in runs}
    seeds = sorted({seed for seed, _ in by_place})
    missing = [f"seed={seed} data.fold={f}" for seed in seeds for f in range(folds) if (seed, f) not in by_place]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{directory}: {name} lacks {', '.join(missing[:3])}{more}; train these runs first")
    answers = [[_answers(directory, by_place[seed, fold]) for fold in range(folds)] for seed in seeds]
    units = [unit for of_fold in answers[0] for unit in _units(of_fold)]
    number = {unit: row for row, unit in enumerate(sorted(set(units)))}
    classes = len(runs[0].result.classes)
    by_fold = np.zeros((len(seeds), folds, classes, classes), np.int64)
    by_person = np.zeros((len(number), len(seeds), classes, classes), np.int64)
    for s, of_seed in enumerate(answers):
        for f, of_fold in enumerate(of_seed):
            places = of_fold.labels, of_fold.predictions[AS_TRAINED]
            np.add.at(by_fold[s, f], places, 1)
            np.add.at(by_person[:, s], (np.array([number[unit] for unit in _units(of_fold)]), *places), 1)
    known = all(None not in of_fold.persons for of_fold in answers[0])
    ids = {picture for of_fold in answers[0] for picture in of_fold.ids.to_pylist()}
    return Method(name, len(seeds), folds, by_fold, by_person, known), (
        ids,
        runs[0].result.protocol.get("all_faces"),
    )


def _answers(directory: Path, run: FinishedRun) -> Answers:
    answers = read(directory, run)
    if answers is None:
        raise UserError(f"{directory / run.folder}: no {PREDICTIONS} there; delete the run to train it again")
    return answers


def _units(answers: Answers) -> list[tuple[str, str]]:
    """Return what each picture is drawn with: its person, or itself where nobody says who is pictured."""
    pictures = zip(answers.ids.to_pylist(), answers.persons, strict=True)
    return [("picture", name) if person is None else ("person", person) for name, person in pictures]


def _same_pictures(directory: Path, methods: Sequence[tuple[Method, object]]) -> list[Method]:
    if any(pictures != methods[0][1] for _, pictures in methods):
        raise UserError(
            f"{directory}: its methods were tested on different pictures; give each set a folder of its own"
        )
    return [method for method, _ in methods]

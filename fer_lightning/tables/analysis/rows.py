"""The rows of a table: which runs belong to them, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis import naming, predictions
from fer_lightning.tables.analysis.predictions import Answers, Pictures
from fer_lightning.tables.analysis.read_runs import (
    FinishedRun,
    array,
    corrected_metrics,
    read_runs,
    refuse_mixed_protocols,
    shown_of,
)
from fer_lightning.tables.analysis.statistics import FloatArray, standard_error_over_images
from fer_lightning.tables.analysis.table_json import TABLE as TABLE
from fer_lightning.tables.analysis.table_json import outline

PAPERS_BACKBONE = "legacy_seresnet50"
"""Name of SE-ResNet-50 in a protocol."""


@dataclass(frozen=True, eq=False)
class Row:
    """One method over its seeds.

    Attributes:
        method: label of the row.
        loss: chosen option of the group; empty where the row has no result and no override says it.
        class_weights: likewise.
        stage: likewise.
        seeds: seeds of the results that exist, ascending.
        planned: number of seeds that there should be.
        abstract: whether it is one of the three methods that the paper's abstract compares.
        posthoc: correction after training that the numbers are shown for; None: as trained.
        plain: whether it is a baseline, see ``naming.is_plain``.
        values: values of each metric and each column of the table, in the order of ``seeds``; NaN in the column of
            a correction that the row does not have.
        class_recall: recall by class, in the order of ``seeds``; NaN where the class has no test image.
        center_drift: likewise; empty where the head has no centers.
        corrected: metrics by correction after training, in the order of ``seeds``; for rows as trained, and for
            corrections that all their results have.
        optimism: see ``results.optimism``, in the order of ``seeds``; NaN where it was not measured, empty for a
            correction after training.
        published: number of others: ``value``, ``metric`` and ``source``.
        pictures: predictions for each test image; None where a run did not keep them.
        runs: the results, in the order of ``seeds``.
    """

    method: str
    loss: str
    class_weights: str
    stage: str
    seeds: tuple[int, ...]
    planned: int
    abstract: bool
    posthoc: str | None
    plain: bool
    values: dict[str, FloatArray]
    class_recall: dict[str, FloatArray]
    center_drift: dict[str, FloatArray]
    corrected: dict[str, dict[str, FloatArray]]
    optimism: FloatArray
    published: dict[str, Any] | None
    pictures: Pictures | None
    runs: tuple[FinishedRun, ...]

    def mean(self, metric: str) -> float:
        """Return the mean over the seeds; NaN without seeds."""
        return float(self.values[metric].mean()) if self.seeds else math.nan

    def std(self, metric: str) -> float:
        """Return the standard deviation over the seeds, n - 1 in the denominator; NaN for fewer than two."""
        return float(self.values[metric].std(ddof=1)) if len(self.seeds) > 1 else math.nan

    def mean_class_recall(self) -> dict[str, float]:
        """Return the mean recall over the seeds by class."""
        return {
            name: float(values.mean()) if len(values) else math.nan for name, values in self.class_recall.items()
        }


@dataclass(frozen=True, eq=False)
class Table:
    """Rows that may be compared, and the facts that a reader needs about them.

    Attributes:
        directory: folder of the runs.
        title: heading; names the backbone that is used in place of the paper's, if one is.
        notes: sentences below the table.
        substitute: sentence on what the data are a substitute for; None where they are the intended data.
        rows: in the order of the table's file; without a file, plain rows first.
        metrics: columns.
        contrasts: pairs of methods whose comparison the table is made for.
        seeds: seeds that every row should have.
        protocol: protocol that all results share.
        provenance: provenance of each result.
        train_counts: training images by class; empty where the results do not say.
        left_out: number of training images dropped as copies of test images, left out by data.exclude, and of
            files set aside.
        images: number of test images.
        image_error: standard error of macro recall from the test images alone, mean over the results.
        seconds: run time of all results.
        strays: number of results in the folder that belong to no row.
        search: values tried for each row in the search before the table, items of table.json's ``search``.
        search_seeds: seeds of the search.
        command: command that ran the table; None where it was not recorded.
    """

    directory: Path
    title: str
    notes: tuple[str, ...]
    substitute: str | None
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    contrasts: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    protocol: dict[str, Any]
    provenance: list[results.Provenance]
    train_counts: dict[str, int]
    left_out: tuple[int, int, int]
    images: int
    image_error: float
    seconds: float
    strays: int
    search: tuple[dict[str, Any], ...] = ()
    search_seeds: tuple[int, ...] = ()
    command: str | None = None

    @property
    def present(self) -> list[Row]:
        """Return the rows that have a result."""
        return [row for row in self.rows if row.seeds]

    @property
    def baseline(self) -> Row | None:
        """Return the plain row with the highest mean macro recall."""
        plain = [row for row in self.present if row.plain]
        return max(plain, key=lambda row: row.mean("macro_recall"), default=None)

    @property
    def runs(self) -> tuple[int, int]:
        """Return the number of results that exist, and the number that there should be."""
        return sum(len(row.seeds) for row in self.rows), sum(row.planned for row in self.rows)

    @property
    def missing(self) -> str:
        """Return a sentence on the missing runs; empty where none is missing."""
        done, planned = self.runs
        gaps = [
            f"{row.method} has {', '.join(map(str, row.seeds)) or 'none'}"
            for row in self.rows
            if len(row.seeds) < row.planned
        ]
        if not gaps:
            return ""
        more = f"; and {len(gaps) - 5} rows more" if len(gaps) > 5 else ""
        return f"{planned - done} of {planned} runs are missing: {'; '.join(gaps[:5])}{more}"


def load(directory: Path) -> Table:
    """Return the table of a folder of run folders; rows may lack seeds, as they do while a sweep runs.

    Raises:
        UserError: no results, results of different protocols or test pictures, or two of the same row and seed.
    """
    by_setting: dict[str, list[FinishedRun]] = {}
    for run in read_runs(directory):
        by_setting.setdefault(identity.setting(run.result.config, run.result.protocol), []).append(run)
    plan = outline(directory, by_setting)
    chosen = [
        [run for key in spec["settings"] for run in by_setting.get(key, []) if run.result.seed in plan.seeds]
        for spec in plan.rows
    ]
    runs = list({run.folder: run for group in chosen for run in group}.values())
    if not runs:
        raise UserError(f"{directory}: no results of this table; train its runs first, or name another folder")
    refuse_mixed_protocols(directory, runs)
    answers = {run.folder: predictions.read(directory, run) for run in runs}
    predictions.refuse_other_pictures(directory, answers)
    first = runs[0].result
    return Table(
        directory=directory,
        title=_title(plan.title, first.protocol.get("backbone")),
        notes=tuple(plan.notes),
        substitute=plan.substitute,
        rows=tuple(
            _row(directory, spec, group, len(spec.get("seeds", plan.seeds)), plan.metrics, answers)
            for spec, group in zip(plan.rows, chosen, strict=True)
        ),
        metrics=tuple(plan.metrics),
        contrasts=tuple((method, other) for method, other in plan.contrasts),
        seeds=tuple(plan.seeds),
        protocol=first.protocol,
        provenance=[run.result.provenance for run in runs],
        train_counts=first.data.train,
        left_out=(sum(first.data.dropped_leaks.values()), first.data.excluded, first.data.set_aside),
        images=int(np.sum(first.confusion)),
        image_error=float(np.mean([standard_error_over_images(run.result.confusion) for run in runs])),
        seconds=sum(run.result.seconds for run in runs),
        strays=sum(map(len, by_setting.values())) - len(runs),
        search=tuple(plan.search),
        search_seeds=tuple(plan.search_seeds),
        command=plan.command,
    )


def _title(title: str, backbone: str | None) -> str:
    """Return a table's title, with the backbone that is used in place of the paper's unless it says so itself."""
    if backbone in (None, PAPERS_BACKBONE) or "SE-ResNet-50" in title:
        return title
    return f"{title} ({backbone} in place of SE-ResNet-50)"


def _row(
    directory: Path,
    spec: dict[str, Any],
    runs: list[FinishedRun],
    planned: int,
    metrics: Sequence[str],
    answers: dict[str, Answers | None],
) -> Row:
    runs = sorted(runs, key=lambda run: run.result.seed)
    for run, following in pairwise(runs):
        if run.result.seed == following.result.seed:
            raise UserError(
                f"{directory}: {run.folder} and {following.folder} both hold seed {run.result.seed} "
                f"of {spec['method']}; delete one of them"
            )
    words = dict(word.lstrip("+").split("=", 1) for word in spec["overrides"] if "=" in word)
    planned_config = {"choices": words, "data": {"soft_labels": words.get("data.soft_labels") == "true"}}
    config = runs[0].result.config if runs else planned_config
    choices, posthoc = config["choices"], spec.get("posthoc")
    as_trained = [run.result for run in runs if posthoc is None]
    shown = [shown_of(directory, run, posthoc) for run in runs]
    corrected = corrected_metrics(runs) if posthoc is None else {}
    classes = runs[0].result.classes if runs else []
    values = array([scores.metrics for scores in shown], METRICS)
    drift = [result.center_drift for result in as_trained]
    return Row(
        method=spec["method"],
        loss=choices.get("loss", ""),
        class_weights=choices.get("class_weights", ""),
        stage=choices.get("stage", ""),
        seeds=tuple(run.result.seed for run in runs),
        planned=planned,
        abstract=spec["abstract"],
        posthoc=posthoc,
        plain=naming.is_plain(config) and posthoc is None,
        values=values | _columns(directory, runs, posthoc, corrected, metrics),
        class_recall=array([scores.per_class_recall for scores in shown], classes),
        center_drift=array(drift, drift[0] if drift else ()),
        corrected=corrected,
        optimism=np.array([results.optimism(result) for result in as_trained], dtype=np.float64),
        published=spec.get("published"),
        pictures=predictions.pictures([answers[run.folder] for run in runs], len(classes), posthoc),
        runs=tuple(runs),
    )


def _columns(
    directory: Path,
    runs: Sequence[FinishedRun],
    posthoc: str | None,
    corrected: dict[str, dict[str, FloatArray]],
    metrics: Sequence[str],
) -> dict[str, FloatArray]:
    """Return the columns of corrections; NaN in rows that show one, and for heads that do not allow it."""
    columns = {}
    for metric in metrics:
        correction, name = naming.parts(metric)
        if not correction:
            continue
        for run in runs:
            if posthoc is None and run.result.posthoc is None:
                shown_of(directory, run, correction)
        columns[metric] = corrected[correction][name] if correction in corrected else np.full(len(runs), math.nan)
    return columns

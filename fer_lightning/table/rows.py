"""Results -> rows: which cells belong to which row of a table, and their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning import results
from fer_lightning.contracts import METRICS, POSTHOC
from fer_lightning.errors import UserError
from fer_lightning.table import naming
from fer_lightning.table.cells import Cell, read_cells, refuse_mixed_protocols
from fer_lightning.table.stats import Difference, FloatArray, paired_difference, standard_error_over_images

TABLE = "table.json"

PAPERS_BACKBONE = "legacy_seresnet50"
"""SE-ResNet-50's name in a protocol."""


@dataclass(frozen=True)
class Row:
    """One method over its seeds.

    Attributes:
        method: label.
        loss: option chosen of the group; empty where the row has no result and does not say it.
        class_weights: likewise.
        stage: likewise.
        seeds: of the results that are there, ascending.
        planned: how many there should be.
        abstract: one of the three methods that the paper's abstract compares.
        posthoc: the correction after training that the numbers are of; None: as trained.
        plain: softmax on one label an image, without class weights and with an ordinary sampler.
        values: of each metric, in the order of ``seeds``.
        class_recall: of each class, in the order of ``seeds``; NaN where the class has no test image.
        center_drift: likewise; empty where the head has no centers.
        corrected: of each correction after training, each metric, in the order of ``seeds``; of rows as trained,
            and of corrections that all their results have.
        image_error: standard error of macro recall from the test images alone, mean over the seeds.
        cells: the results themselves, in the order of ``seeds``.
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
    image_error: float
    cells: tuple[Cell, ...]

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN without any."""
        return float(self.values[metric].mean()) if self.seeds else math.nan

    def std(self, metric: str) -> float:
        """Standard deviation over the seeds with n - 1 in the denominator; NaN for fewer than two."""
        return float(self.values[metric].std(ddof=1)) if len(self.seeds) > 1 else math.nan

    def mean_class_recall(self) -> dict[str, float]:
        """Mean recall over the seeds by class."""
        return {
            name: float(values.mean()) if len(values) else math.nan for name, values in self.class_recall.items()
        }


@dataclass(frozen=True)
class Table:
    """Rows that may be compared, and what a reader has to know about them.

    Attributes:
        directory: the folder of its cells.
        title: heading; says which backbone stands in for the paper's, if one does.
        notes: sentences for the foot.
        substitute: what the data stand in for; None where they are the ones meant.
        rows: in the order of the table's file, else plain rows first.
        metrics: columns.
        contrasts: pairs of methods whose comparison the table is made for.
        seeds: those that every row should have.
        protocol: what all results share.
        provenance: ``versions`` and ``machine`` of each result.
        train_counts: training images by class; empty where the results do not say.
        left_out: number of training images dropped as copies of test images, left out by data.exclude, and of
            files set aside.
        images: size of the test set.
        image_error: standard error of macro recall from the test images alone, mean over the results.
        seconds: run time of all results.
        strays: number of results in the folder that belong to no row.
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
    provenance: list[dict[str, Any]]
    train_counts: dict[str, int]
    left_out: tuple[int, int, int]
    images: int
    image_error: float
    seconds: float
    strays: int

    @property
    def present(self) -> list[Row]:
        """The rows that have a result."""
        return [row for row in self.rows if row.seeds]

    @property
    def baseline(self) -> Row | None:
        """The plain row with the highest mean macro recall."""
        plain = [row for row in self.present if row.plain]
        return max(plain, key=lambda row: row.mean("macro_recall"), default=None)

    @property
    def cells(self) -> tuple[int, int]:
        """How many results are there, and how many there should be."""
        return sum(len(row.seeds) for row in self.rows), sum(row.planned for row in self.rows)


def difference(row: Row, other: Row, metric: str = "macro_recall") -> Difference:
    """``row`` minus ``other``, paired over the seeds that both have; without any, the difference of the means."""
    shared = sorted(set(row.seeds) & set(other.seeds))
    if not shared:
        return Difference(row.mean(metric) - other.mean(metric), math.nan, math.nan, math.nan, 0)
    first, second = ([side.values[metric][side.seeds.index(seed)] for seed in shared] for side in (row, other))
    return paired_difference(first, second)


@dataclass(frozen=True)
class _Plan:
    """What a table should hold: its file's words, or what the results themselves suggest."""

    title: str
    rows: list[dict[str, Any]]
    seeds: list[int]
    metrics: Sequence[str] = METRICS
    contrasts: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    substitute: str | None = None


def load(directory: Path) -> Table:
    """The table of a folder of cell folders; rows may lack seeds, as they do while a sweep runs.

    Raises:
        UserError: no results, results of different protocols, or two of the same row and seed.
    """
    by_setting: dict[str, list[Cell]] = {}
    for cell in read_cells(directory):
        by_setting.setdefault(results.setting(cell.result), []).append(cell)
    plan = _declared(directory / TABLE) or _suggested(directory, by_setting)
    chosen = [
        [cell for key in spec["settings"] for cell in by_setting.get(key, []) if cell.result["seed"] in plan.seeds]
        for spec in plan.rows
    ]
    cells = list({cell.folder: cell for group in chosen for cell in group}.values())
    if not cells:
        raise UserError(f"{directory}: no results of this table; train its cells first, or name another folder")
    refuse_mixed_protocols(directory, cells)
    one = cells[0].result
    data = one.get("data", {})
    return Table(
        directory=directory,
        title=_title(plan.title, one["protocol"].get("backbone")),
        notes=tuple(plan.notes),
        substitute=plan.substitute,
        rows=tuple(
            _row(directory, spec, group, len(spec.get("seeds", plan.seeds)))
            for spec, group in zip(plan.rows, chosen, strict=True)
        ),
        metrics=tuple(plan.metrics),
        contrasts=tuple((first, second) for first, second in plan.contrasts),
        seeds=tuple(plan.seeds),
        protocol=one["protocol"],
        provenance=[cell.result["provenance"] for cell in cells],
        train_counts=data.get("train", {}),
        left_out=(
            sum(data.get("dropped_leaks", {}).values()),
            data.get("excluded", 0),
            data.get("set_aside", 0),
        ),
        images=int(np.sum(one["confusion"])),
        image_error=_mean_image_error([cell.result for cell in cells]),
        seconds=sum(cell.result.get("seconds", 0.0) for cell in cells),
        strays=sum(map(len, by_setting.values())) - len(cells),
    )


def _title(title: str, backbone: str | None) -> str:
    """A table's title, with the backbone that stands in for the paper's where it does not say so itself."""
    if backbone in (None, PAPERS_BACKBONE) or "SE-ResNet-50" in title:
        return title
    return f"{title} ({backbone} in place of SE-ResNet-50)"


def _declared(path: Path) -> _Plan | None:
    """The plan that was kept beside the cells; None where the folder was not made from a table file."""
    if not path.exists():
        return None
    try:
        words = json.loads(path.read_text())
        plan = _Plan(**{name: words[name] for name in (item.name for item in fields(_Plan)) if name in words})
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(
            f"{path}: not a table.json of fer: {error}; delete it to show the results as they are"
        ) from error
    if unknown := set(plan.metrics) - set(METRICS):
        raise UserError(f"{path}: no such metric: {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    return plan


def _suggested(directory: Path, by_setting: dict[str, list[Cell]]) -> _Plan:
    """A row for every setting, plain ones first."""
    configs = [cells[0].result["config"] for cells in by_setting.values()]
    named = zip(naming.labels(configs), configs, by_setting, strict=True)
    ordered = sorted(named, key=lambda item: (not naming.is_plain(item[1]), item[0]))
    rows = [{"method": name, "abstract": False, "overrides": [], "settings": [key]} for name, _, key in ordered]
    rivals = [
        {**row, "method": f"{row['method']} + logit adjustment", "posthoc": "logit_adjustment"}
        for row, (_, config, key) in zip(rows, ordered, strict=True)
        if naming.is_plain(config) and all(c.result.get("posthoc") for c in by_setting[key])
    ]
    rows[len(rivals) : len(rivals)] = rivals  # behind the plain rows
    seeds = sorted({cell.result["seed"] for cells in by_setting.values() for cell in cells})
    return _Plan(f"Results in {directory.resolve().name}", rows, seeds)


def _row(directory: Path, spec: dict[str, Any], cells: list[Cell], planned: int) -> Row:
    found = sorted(cells, key=lambda cell: cell.result["seed"])
    for cell, following in pairwise(found):
        if cell.result["seed"] == following.result["seed"]:
            raise UserError(
                f"{directory}: {cell.folder} and {following.folder} both hold seed {cell.result['seed']} "
                f"of {spec['method']}; delete one of them"
            )
    said = dict(word.lstrip("+").split("=", 1) for word in spec["overrides"] if "=" in word)
    soft = {"soft_labels": said.get("data.soft_labels") == "true"}
    config = found[0].result["config"] if found else {"choices": said, "data": soft}
    choices = config["choices"]
    posthoc = spec.get("posthoc")
    shown = [_shown(directory, cell, posthoc) for cell in found]
    measured = [one["metrics"] for one in shown]
    recalls = [one["per_class_recall"] for one in shown]
    columns = [cell.result.get("posthoc", {}) for cell in found] if posthoc is None else []
    return Row(
        method=spec["method"],
        loss=choices.get("loss", ""),
        class_weights=choices.get("class_weights", ""),
        stage=choices.get("stage", ""),
        seeds=tuple(cell.result["seed"] for cell in found),
        planned=planned,
        abstract=spec["abstract"],
        posthoc=posthoc,
        plain=naming.is_plain(config) and posthoc is None,
        values={name: np.array([m[name] for m in measured], dtype=np.float64) for name in METRICS},
        class_recall={
            name: np.array([recall[name] for recall in recalls], dtype=np.float64)
            for name in (found[0].result["classes"] if found else ())
        },
        center_drift={
            name: np.array([cell.result["center_drift"][name] for cell in found], dtype=np.float64)
            for name in (found[0].result.get("center_drift", ()) if found and posthoc is None else ())
        },
        corrected={
            name: {
                m: np.array([column[name]["metrics"][m] for column in columns], dtype=np.float64) for m in METRICS
            }
            for name in POSTHOC
            if columns and all(name in column for column in columns)
        },
        image_error=_mean_image_error(shown),
        cells=tuple(found),
    )


def _shown(directory: Path, cell: Cell, posthoc: str | None) -> dict[str, Any]:
    """What a row shows of a result: as trained, or after a correction."""
    if posthoc is None:
        return cell.result
    column: dict[str, Any] | None = cell.result.get("posthoc", {}).get(posthoc)
    if column is None:
        raise UserError(
            f"{directory / cell.folder}: its result.json has no {posthoc} column; delete it to run the cell again"
        )
    return column


def _mean_image_error(results_: Sequence[dict[str, Any]]) -> float:
    errors = [standard_error_over_images(one["confusion"]) for one in results_]
    return float(np.mean(errors)) if errors else math.nan

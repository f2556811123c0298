"""The runs of a folder, and whether they may stand in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS

_NEEDED = {"metrics", "per_class_recall", "confusion", "classes", "protocol", "provenance", "config", "seed"}


class FinishedRun(NamedTuple):
    """The name of a run's folder and its result.json."""

    folder: str
    result: dict[str, Any]


def read_runs(directory: Path) -> list[FinishedRun]:
    """All complete runs of a folder, sorted by folder name.

    Raises:
        UserError: there are none, or one lacks what a table needs.
    """
    runs = []
    for path in sorted(directory.glob(f"*/{results.RESULT}")):
        result = results.read(path.parent) or {}
        if missing := _NEEDED - result.keys():
            raise UserError(f"{path}: has no {', '.join(sorted(missing))}; delete it and start the run again")
        runs.append(FinishedRun(path.parent.name, result))
    if not runs:
        raise UserError(f"{directory}: no results; train runs into it first, or name another folder")
    return runs


def shown_of(directory: Path, run: FinishedRun, posthoc: str | None) -> dict[str, Any]:
    """What a row shows of a result: as trained, or after a correction."""
    if posthoc is None:
        return run.result
    column: dict[str, Any] | None = (run.result.get("posthoc") or {}).get(posthoc)
    if column is None:
        raise UserError(
            f"{directory / run.folder}: its result.json has no {posthoc} column; delete it and start the run again"
        )
    return column


def array(
    key: str, results_: Sequence[dict[str, Any]], names: Iterable[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return a part of the results by name, each in the order of the results; NaN for what is None or missing."""
    return {name: np.array([result[key].get(name) for result in results_], dtype=np.float64) for name in names}


def corrected_metrics(runs: Sequence[FinishedRun]) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """The metrics after each correction that all results of a row have."""
    columns = [run.result.get("posthoc") or {} for run in runs]
    return {
        name: array("metrics", [column[name] for column in columns], METRICS)
        for name in CORRECTIONS
        if columns and all(name in column for column in columns)
    }


def refuse_mixed_protocols(directory: Path, runs: list[FinishedRun]) -> None:
    """Hold the runs of a table to one protocol.

    Raises:
        UserError: two differ; the message names the first key that does, its values and the folders.
    """
    if differs := describe_difference(runs):
        raise UserError(
            f"{directory}: results of different protocols do not belong in one table: {differs}; move one kind to "
            "a folder of its own"
        )


def describe_difference(runs: list[FinishedRun]) -> str:
    """The first key in which the protocols of runs differ, with its values and folders; empty where none does."""
    protocols = [run.result["protocol"] for run in runs]
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    said = {key: [p[key] for p in protocols if p.get(key) is not None] for key in keys}  # None: random weights
    differing = [key for key, values in said.items() if any(value != values[0] for value in values)]
    if not differing:
        return ""
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(_shown(run.result["protocol"].get(differing[0])), []).append(run.folder)
    told = "; ".join(
        f"{value} in {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for value, names in folders.items()
    )
    also = f" (and {', '.join(differing[1:])})" if differing[1:] else ""
    return f"{differing[0]}{also} differs: {told}"


def _shown(value: Any) -> str:
    """A protocol's value as it reads in an error message; long hashes cut."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value[:12] if isinstance(value, str) else str(value)

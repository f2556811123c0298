"""The runs of a folder, and whether they may stand in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS


class FinishedRun(NamedTuple):
    """The name of a run's folder and its result.json."""

    folder: str
    result: results.Result


def read_runs(directory: Path) -> list[FinishedRun]:
    """Return all complete runs of a folder, sorted by folder name.

    Raises:
        UserError: there are none, or a result.json cannot be read.
    """
    folders = [path.parent for path in sorted(directory.glob(f"*/{results.RESULT}"))]
    runs = [FinishedRun(folder.name, result) for folder in folders if (result := results.read(folder))]
    if not runs:
        raise UserError(f"{directory}: no results; train runs into it first, or name another folder")
    return runs


def shown_of(directory: Path, run: FinishedRun, posthoc: str | None) -> results.Scores:
    """Return the scores that a row shows of a run: as trained, or after a correction.

    Raises:
        UserError: the result has no such correction.
    """
    if posthoc is None:
        return run.result
    scores = (run.result.posthoc or {}).get(posthoc)
    if scores is None:
        raise UserError(
            f"{directory / run.folder}: its result.json has no {posthoc} column; delete it and start the run again"
        )
    return scores


def array(parts: Sequence[Mapping[str, float | None]], names: Iterable[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the same part of several results by name, in their order; NaN for what is None or missing."""
    return {name: np.array([part.get(name) for part in parts], dtype=np.float64) for name in names}


def corrected_metrics(runs: Sequence[FinishedRun]) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """Return the metrics after each correction that all results of a row have."""
    posthoc = [run.result.posthoc or {} for run in runs]
    return {
        name: array([scores[name].metrics for scores in posthoc], METRICS)
        for name in CORRECTIONS
        if posthoc and all(name in scores for scores in posthoc)
    }


def refuse_mixed_protocols(directory: Path, runs: list[FinishedRun]) -> None:
    """Refuse runs of different protocols in one table.

    Raises:
        UserError: two protocols differ; the message names the first key that does, its values and the folders.
    """
    if differs := describe_difference(runs):
        raise UserError(
            f"{directory}: results of different protocols do not belong in one table: {differs}; move one kind to "
            "a folder of its own"
        )


def describe_difference(runs: list[FinishedRun]) -> str:
    """Return the first key in which protocols of runs differ, its values and folders; empty where none does."""
    protocols = [run.result.protocol for run in runs]
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    # None stands for random weights
    values_of = {key: [p[key] for p in protocols if p.get(key) is not None] for key in keys}
    differing = [key for key, values in values_of.items() if any(value != values[0] for value in values)]
    if not differing:
        return ""
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(_shown(run.result.protocol.get(differing[0])), []).append(run.folder)
    listed = "; ".join(
        f"{value} in {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for value, names in folders.items()
    )
    also = f" (and {', '.join(differing[1:])})" if differing[1:] else ""
    return f"{differing[0]}{also} differs: {listed}"


def _shown(value: Any) -> str:
    """Return a protocol's value as an error message shows it, with hashes cut."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value[:12] if isinstance(value, str) else str(value)

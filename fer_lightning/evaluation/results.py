"""What a run leaves behind, written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import atomic_path, write_atomic

RESULT = "result.json"
TRIAL = "trial.json"
PREDICTIONS = "predictions.parquet"
EMBEDDINGS = "embeddings.npz"
CHECKPOINT = "best.ckpt"

LOG = "log.txt"
"""What a run of a sweep or table said."""

TRIALS = "trials"
"""The folder of a table's trials, beside its runs."""


def optimism(result: Mapping[str, Any]) -> float:
    """What choosing the last stage's epoch by the test set's macro recall would have added to it.

    The best epoch less the one that the minival chose, both as they were seen after it: pictures as they are. NaN
    where the test set was not looked at after every epoch.
    """
    stage = (result.get("stages") or [{}])[-1]
    seen = [epoch.get("test/macro_recall") for epoch in stage.get("history", ())]
    if not seen or None in seen:
        return math.nan
    return float(max(seen) - seen[stage["best_epoch"]])


def write(
    directory: Path,
    result: dict[str, Any],
    ids: Sequence[str],
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    corrected: Mapping[str, npt.NDArray[np.int64]],
) -> None:
    """Write a run's predictions and, last, its result.json: where that is, the run is complete.

    Args:
        directory: the run's.
        result: see conf/README.md, "Data and models".
        ids: of the N test pictures.
        labels: (N,) class indices.
        probabilities: (N, C).
        corrected: predicted class indices (N,) after each correction.
    """
    classes = np.array(result["classes"])
    columns = {"id": list(ids), "label": classes[labels], "prediction": classes[probabilities.argmax(1)]}
    columns |= {f"prediction_{name}": classes[predicted] for name, predicted in corrected.items()}
    columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    with atomic_path(directory / PREDICTIONS) as partial:
        parquet.write_table(pa.table(columns), partial)
    write_atomic(directory / RESULT, json.dumps(result, indent=2) + "\n")


def read_trial(directory: Path) -> dict[str, Any] | None:
    """A trial's trial.json, or None where it is not complete."""
    path = directory / TRIAL
    return json.loads(path.read_text()) if path.exists() else None


def read(directory: Path) -> dict[str, Any] | None:
    """A run's result.json, or None where it is not complete.

    Raises:
        UserError: the file is there but is no result.
    """
    path = directory / RESULT
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not a result.json: {error}; delete it and start the run again") from error
    if not isinstance(result, dict) or "metrics" not in result or "protocol" not in result:
        raise UserError(f"{path}: not a result.json of fer; delete it and start the run again")
    result["protocol"].setdefault("numerics", 0)  # written before there was a version
    return result

"""What a cell leaves behind, written whole or not at all, and what tells one cell from another."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from fer_lightning.cache import atomic_path, content_hash, write_atomic
from fer_lightning.errors import UserError

RESULT = "result.json"
TRIAL = "trial.json"
PREDICTIONS = "predictions.parquet"
CHECKPOINT = "best.ckpt"

_PACKAGES = (
    "fer-lightning",
    "torch",
    "timm",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "numpy",
    "opencv-python-headless",
)
_NOT_IDENTITY = {
    "logger": None,
    "choices": {"logger", "trainer"},
    "data": {"root", "store", "workers", "exclude"},
    "backbone": {"weights", "source"},
}


def identity(config: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
    """What makes a cell this cell: its resolved config without logger, workers and paths, and its protocol.

    The paths' content is in the protocol: hashes of the prepared faces and of the backbone's weights.
    """
    kept: dict[str, Any] = {}
    for group, value in config.items():
        dropped = _NOT_IDENTITY.get(group, set())
        if dropped is None:
            continue
        kept[group] = {k: v for k, v in value.items() if k not in dropped} if isinstance(value, dict) else value
    return {"config": kept, "protocol": protocol}


def cell_name(config: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Folder name of a cell: readable, and the first eight hex digits of its identity's hash."""
    choices = config["choices"]
    readable = f"{choices['loss']}-{choices['class_weights']}-{choices['stage']}-s{config['seed']}"
    return f"{readable}-{content_hash(identity(config, protocol))[:8]}"


def setting(result: dict[str, Any]) -> str:
    """Hash of a result's identity without its seeds: equal for the cells that a row's mean is taken over."""
    config = {key: value for key, value in result["config"].items() if key != "seed"}
    return content_hash(identity(config, result["protocol"]))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide digits."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found


def write(
    directory: Path,
    result: dict[str, Any],
    ids: Sequence[str],
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
) -> None:
    """Write a cell's predictions and, last, its result.json: where that is, the cell is complete.

    Args:
        directory: the cell's.
        result: see README, "A cell's folder".
        ids: of the N test pictures.
        labels: (N,) class indices.
        probabilities: (N, C).
    """
    classes = np.array(result["classes"])
    columns = {"id": list(ids), "label": classes[labels], "prediction": classes[probabilities.argmax(1)]}
    columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    with atomic_path(directory / PREDICTIONS) as partial:
        parquet.write_table(pa.table(columns), partial)
    write_atomic(directory / RESULT, json.dumps(result, indent=2) + "\n")


def read_trial(directory: Path) -> dict[str, Any] | None:
    """A trial's trial.json, or None where it is not complete."""
    path = directory / TRIAL
    return json.loads(path.read_text()) if path.exists() else None


def read(directory: Path) -> dict[str, Any] | None:
    """A cell's result.json, or None where it is not complete.

    Raises:
        UserError: the file is there but is no result.
    """
    path = directory / RESULT
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not a result.json: {error}; delete it to run the cell again") from error
    if not isinstance(result, dict) or "metrics" not in result or "protocol" not in result:
        raise UserError(f"{path}: not a result.json of fer; delete it to run the cell again")
    return result


def read_all(directory: Path) -> list[dict[str, Any]]:
    """The results of all complete cells below ``directory``, sorted by folder name."""
    found = (read(path.parent) for path in sorted(directory.glob(f"*/{RESULT}")))
    return [result for result in found if result is not None]

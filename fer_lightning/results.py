"""What a cell leaves behind, written whole or not at all, and what tells one cell from another."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import parquet

from fer_lightning.cache import atomic_path, content_hash, write_atomic
from fer_lightning.errors import Busy, Stopped, UserError, in_words

RESULT = "result.json"
TRIAL = "trial.json"
PREDICTIONS = "predictions.parquet"
EMBEDDINGS = "embeddings.npz"
CHECKPOINT = "best.ckpt"

FAILURE = "failed.json"
"""What a cell says that ended by itself without a result."""

LOG = "log.txt"
"""What a cell of a sweep or table said."""

TRIALS = "trials"
"""The folder of a table's trials, beside its cells."""

_LOCK = ".lock"

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
    "optimism": None,
    "choices": {"logger", "trainer"},
    "data": {"root", "store", "workers", "exclude", "redistributable"},
    "backbone": {"weights", "source"},
    "trainer": {"timeout", "started_by"},
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
    corrected: Mapping[str, npt.NDArray[np.int64]],
) -> None:
    """Write a cell's predictions and, last, its result.json: where that is, the cell is complete.

    Args:
        directory: the cell's.
        result: see README, "A cell's folder".
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


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold a cell's folder while it is trained; what an earlier failure left there goes.

    Raises:
        Busy: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=1)  # who asks whether a cell is running holds it for a moment
    except Timeout as error:
        raise Busy(f"{directory}: another process trains this cell at the moment") from error
    try:
        (directory / FAILURE).unlink(missing_ok=True)
        yield
        Path(lock.lock_file).unlink(missing_ok=True)  # complete: who waited for the lock will see that
    finally:
        lock.release()


def is_claimed(directory: Path) -> bool:
    """Whether a process is at this cell now."""
    path = directory / _LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def failure_noted(directory: Path | None) -> Iterator[None]:
    """Write down in a cell's folder why it ended without a result, unless something else ended it."""
    try:
        yield
    except (Stopped, Busy):
        raise
    except Exception as error:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            said = str(error) if isinstance(error, UserError) else in_words(error)
            write_atomic(directory / FAILURE, json.dumps({"said": said, "when": time.time()}) + "\n")
        raise


def read_failure(directory: Path) -> str | None:
    """Why a cell ended without a result, or None where it did not end by itself."""
    path = directory / FAILURE
    return str(json.loads(path.read_text())["said"]) if path.exists() else None


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

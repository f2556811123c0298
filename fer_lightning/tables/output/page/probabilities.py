"""A run's probabilities of each class, for every test image."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError, in_words
from fer_lightning.evaluation.results import PREDICTIONS
from fer_lightning.tables.analysis.statistics import FloatArray


class Probabilities(NamedTuple):
    """The ids of N test images, their labels (N,) as class indices, and probabilities (N, C) as trained."""

    ids: list[str]
    labels: npt.NDArray[np.int64]
    values: FloatArray


def probabilities(run: Path, classes: list[str]) -> Probabilities | None:
    """Return the predictions in a run's folder; None where they were deleted.

    Raises:
        UserError: the file is there but holds no predictions of these classes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    file = run / PREDICTIONS
    if not file.is_file():
        return None
    indices = {name: k for k, name in enumerate(classes)}
    try:
        table = parquet.read_table(file, columns=["id", "label", *(f"p_{name}" for name in classes)])
        labels = np.array([indices[name] for name in table["label"].to_pylist()], dtype=np.int64)
        values = np.stack([table[f"p_{name}"].to_numpy() for name in classes], axis=1)
        return Probabilities([str(image) for image in table["id"].to_pylist()], labels, values.astype(np.float64))
    except (pa.ArrowException, KeyError) as error:
        raise UserError(f"{file}: no predictions of fer: {in_words(error)}; delete it to go without") from error

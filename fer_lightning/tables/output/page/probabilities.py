"""How sure a run was of each class, for every test picture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError, in_words
from fer_lightning.evaluation.results import PREDICTIONS
from fer_lightning.tables.analysis.statistics import FloatArray


class Probabilities(NamedTuple):
    """Of N test pictures: ids, (N,) class indices, (N, C) probabilities as trained."""

    ids: list[str]
    labels: npt.NDArray[np.int64]
    values: FloatArray


def probabilities(run: Path, classes: list[str]) -> Probabilities | None:
    """What lies in a run's folder; None where it was deleted.

    Raises:
        UserError: the file is there but holds no predictions of these classes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    file = run / PREDICTIONS
    if not file.is_file():
        return None
    place = {name: k for k, name in enumerate(classes)}
    try:
        told = parquet.read_table(file, columns=["id", "label", *(f"p_{name}" for name in classes)])
        labels = np.array([place[name] for name in told["label"].to_pylist()], dtype=np.int64)
        values = np.stack([told[f"p_{name}"].to_numpy() for name in classes], axis=1)
        return Probabilities([str(one) for one in told["id"].to_pylist()], labels, values.astype(np.float64))
    except (pa.ArrowException, KeyError) as error:
        raise UserError(f"{file}: no predictions of fer: {in_words(error)}; delete it to go without") from error

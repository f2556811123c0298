"""The numbers of a result, computed once from class probabilities and labels."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_auroc,
    multiclass_average_precision,
    multiclass_calibration_error,
    multiclass_cohen_kappa,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from fer_lightning.evaluation.names import METRICS


def krippendorff_alpha(confusion: Tensor) -> float:
    """Krippendorff's alpha for nominal data and two coders, the labels and the predictions.

    Args:
        confusion: (C, C) counts.

    Returns:
        1 - observed / expected disagreement (Krippendorff 2011); NaN where only one class occurs.
    """
    coincidences = (confusion + confusion.T).double()
    total = coincidences.sum()
    margins = coincidences.sum(0)
    observed = 1 - coincidences.trace() / total
    expected = 1 - (margins * (margins - 1)).sum() / (total * (total - 1))
    return float(1 - observed / expected) if expected > 0 else math.nan


def evaluate(probabilities: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """All metrics of a set of N pictures.

    Macro averages, AUROC and average precision are means over the classes that occur in ``labels``. The expected
    calibration error has 15 equal bins (Guo et al. 2017).

    Args:
        probabilities: (N, C), rows summing to one.
        labels: (N,) class indices.
        classes: C names.

    Returns:
        ``metrics`` by name (see METRICS), ``per_class_recall`` by class name (None where a class does not occur)
        and ``confusion``, C lists of C integers, rows true, columns predicted.
    """
    count = len(classes)
    probabilities = probabilities.double()
    confusion = multiclass_confusion_matrix(probabilities, labels, count)
    present = confusion.sum(1) > 0
    recall = confusion.diag().double() / confusion.sum(1)
    f1 = multiclass_f1_score(probabilities, labels, count, average="none")
    auroc = multiclass_auroc(probabilities, labels, count, average="none")
    precision = multiclass_average_precision(probabilities, labels, count, average="none")
    values: dict[str, Tensor | float] = {
        "accuracy": confusion.trace().double() / confusion.sum(),
        "macro_recall": recall[present].mean(),
        "macro_f1": f1[present].mean(),
        "cohen_kappa": multiclass_cohen_kappa(probabilities, labels, count),
        "krippendorff_alpha": krippendorff_alpha(confusion),
        "auroc": auroc[present].mean(),
        "average_precision": precision[present].mean(),
        "ece": multiclass_calibration_error(probabilities, labels, count, n_bins=15),
    }
    return {
        "metrics": {name: float(values[name]) for name in METRICS},
        "per_class_recall": {name: float(recall[k]) if present[k] else None for k, name in enumerate(classes)},
        "confusion": [[int(n) for n in row] for row in confusion],
    }

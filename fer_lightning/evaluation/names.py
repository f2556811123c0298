"""Names of the metrics and of the corrections after training. Needs no torch."""

from __future__ import annotations

from typing import Literal, get_args

Metric = Literal[
    "accuracy",
    "macro_recall",
    "macro_f1",
    "cohen_kappa",
    "krippendorff_alpha",
    "auroc",
    "average_precision",
    "ece",
]
"""A metric of a result."""

METRICS: tuple[Metric, ...] = get_args(Metric)
"""All of them, in the order they are shown."""

Correction = Literal["logit_adjustment", "tau_norm", "temperature"]
"""A correction after training that a result has a column for, see fer_lightning.evaluation.posthoc."""

POSTHOC: tuple[Correction, ...] = get_args(Correction)
"""All of them."""

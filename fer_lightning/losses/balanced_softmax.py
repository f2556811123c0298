"""Balanced softmax: cross-entropy of a softmax weighted by the number of images of each class."""

from __future__ import annotations

from fer_lightning.core.contracts import ClassStats
from fer_lightning.losses.logit_adjusted import LogitAdjustedHead


class BalancedSoftmaxHead(LogitAdjustedHead):
    """Head with the loss -log( N_{y_i} exp(z_i[y_i]) / sum_k N_k exp(z_i[k]) ): logit adjustment with tau = 1.

    Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes and their counts N_k.
    """

    def __init__(self, feature_dim: int, class_stats: ClassStats) -> None:
        super().__init__(feature_dim, class_stats, tau=1.0)

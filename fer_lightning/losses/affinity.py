"""Affinity loss of DAN: center loss in units of the centers' own variance."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterTermHead, CenterUpdate


class AffinityHead(CenterTermHead):
    """Cross-entropy + lambda * ||x_i - c_{y_i}||^2 / (sigma^2 + delta), sigma^2 the variance between the centers.

    sigma^2 = 1/(C - 1) sum_k ||c_k - mean c||^2. Source: Wen et al., "Distract Your Attention: Multi-Head Cross
    Attention Network for Facial Expression Recognition", Biomimetics 2023; without that paper's
    attention heads and their partition loss. There the centers are learned: ``center_update=gradient``.

    Args:
        feature_dim: D.
        class_stats: the C classes, two at least.
        weight: lambda; 1 in the paper.
        delta: keeps the denominator away from zero; ours.
        center_update: see CenterTermHead. Only ``exact`` and ``gradient`` push centers apart.
        center_rate: the centers' own rate.

    Raises:
        ValueError: delta is not positive, or there is one class only.
    """

    running_leaves_out_the_push: ClassVar[bool] = True

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 1.0,
        delta: Positive = 1e-3,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(
            feature_dim, class_stats, weight=weight, center_update=center_update, center_rate=center_rate
        )
        if not delta > 0:
            raise ValueError(f"delta must be positive, got {delta}")
        if class_stats.num_classes < 2:
            raise ValueError("one class has no variance between centers")
        self.delta = delta

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """(N,): the squared distance to the own center, in units of the variance between centers."""
        distances = (embeddings - centers.index_select(0, labels)).square().sum(1)
        return distances / (centers.var(0).sum() + self.delta)

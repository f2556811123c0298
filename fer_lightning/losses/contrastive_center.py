"""Contrastive-center loss: near the own center relative to how near the others are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterTermHead, CenterUpdate


class ContrastiveCenterHead(CenterTermHead):
    """Cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2 / (sum_{j != y_i} ||x_i - c_j||^2 + delta).

    Source: Qi & Su, "Contrastive-center loss for deep neural networks", ICIP 2017. The cluster loss divides
    by distances between centers instead: there an embedding is not pushed away from the other classes, here it is.

    Args:
        feature_dim: D.
        class_stats: the C classes.
        weight: lambda. 1.0 is our untuned default.
        delta: keeps the denominator away from zero; the paper's 1.
        center_update: see CenterTermHead.
        center_rate: the centers' own rate.

    Raises:
        ValueError: delta is not positive.
    """

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 1.0,
        delta: Positive = 1.0,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(
            feature_dim, class_stats, weight=weight, center_update=center_update, center_rate=center_rate
        )
        if not delta > 0:
            raise ValueError(f"delta must be positive, got {delta}")
        self.delta = delta

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """(N,): half the squared distance to the own center over the sum of those to the others."""
        distances = (embeddings.unsqueeze(1) - centers).square().sum(2)
        own = F.one_hot(labels, len(centers)).to(distances.dtype)
        near = (own * distances).sum(1)
        return 0.5 * near / (distances.sum(1) - near + self.delta)

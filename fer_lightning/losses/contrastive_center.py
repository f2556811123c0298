"""Contrastive-center loss: the distance to the center of the class relative to those to the other centers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterTermHead, CenterUpdate


class ContrastiveCenterHead(CenterTermHead):
    """Head with cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2 / (sum_{j != y_i} ||x_i - c_j||^2 + delta).

    Source: Qi & Su, "Contrastive-center loss for deep neural networks", ICIP 2017. It pushes an
    embedding away from the other classes; the cluster loss, which divides by distances between centers, does not.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        weight: lambda. 1 is an untuned default.
        delta: keeps the denominator away from zero; 1 in the paper.
        center_update: see CenterTermHead.
        center_rate: step size of the centers.

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
        """Return (N,) half the squared distance to the center of the class over the sum of those to the others."""
        distances = (embeddings.unsqueeze(1) - centers).square().sum(2)
        near = (F.one_hot(labels, len(centers)).to(distances.dtype) * distances).sum(1)
        return 0.5 * near / (distances.sum(1) - near + self.delta)

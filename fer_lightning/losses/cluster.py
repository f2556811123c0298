"""Cluster loss: center loss relative to the distance of the center of the class from the other centers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterTermHead, CenterUpdate


class ClusterHead(CenterTermHead):
    """Head with the loss cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2 / D_{y_i}.

    D_k = sum_j ||c_j - c_k||^2 + delta. Source: Ngo & Yoon, "Facial Expression Recognition Based on
    Weighted-Cluster Loss and Deep Transfer Learning Using a Highly Imbalanced Dataset", Sensors 2020, 20(9), 2639,
    as reconstructed from its abstract and independent re-implementations. With the class weights
    ``min_over_count`` it is their weighted-cluster loss.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        weight: lambda. Not in the abstract; 1 is an untuned default.
        delta: keeps the denominator away from zero.
        center_update: see CenterTermHead. Only ``exact`` and ``gradient`` push centers apart.
        center_rate: step size of the centers. Not in the abstract.

    Raises:
        ValueError: delta is not positive.
    """

    running_leaves_out_the_push: ClassVar[bool] = True

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
        if delta <= 0:
            raise ValueError(f"delta must be positive, got {delta}")
        self.delta = delta

    def spread(self, centers: Tensor) -> Tensor:
        """Return D_k (C,) of centers (C, D): the sum of squared distances to all other centers, plus delta."""
        spread: Tensor = (centers.unsqueeze(0) - centers.unsqueeze(1)).square().sum((1, 2)) + self.delta
        return spread

    @torch.no_grad()
    def epoch_scalars(self, means: Tensor, grand_mean: Tensor) -> dict[str, Tensor]:
        """Return the drift of the centers and D_k (C,), by name."""
        scalars = super().epoch_scalars(means, grand_mean)
        return {**scalars, "center_spread": self.spread(self.centers.to(means))}

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """Return (N,) half the squared distance to the center of the class, in units of D_k of that center."""
        distances = (embeddings - centers.index_select(0, labels)).square().sum(1)
        return 0.5 * distances / self.spread(centers).index_select(0, labels)

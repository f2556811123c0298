"""Island loss: center loss, and a penalty on centers that point in similar directions."""

from __future__ import annotations

import torch
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.center_term import CenterUpdate


class IslandHead(CenterHead):
    """Head with cross-entropy + lambda * ( 1/2 ||x_i - c_{y_i}||^2 + lambda_1 sum_{j != k} (cos(c_j, c_k) + 1) ).

    Source: Cai et al., "Island Loss for Learning Discriminative Features in Facial Expression Recognition",
    FG 2018. The sum over the centers is ``penalty``: it belongs to no sample and gets no class weight.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        weight: lambda. 0.01 is an untuned default.
        island_weight: lambda_1. 10 is an untuned default.
        center_update: see CenterTermHead; the paper's rule is ``running``.
        center_rate: the paper's alpha.

    Raises:
        ValueError: island_weight is negative.
    """

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 0.01,
        island_weight: NotNegative = 10.0,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(
            feature_dim, class_stats, weight=weight, center_update=center_update, center_rate=center_rate
        )
        if not island_weight >= 0:
            raise ValueError(f"island_weight must not be negative, got {island_weight}")
        self.island_weight = island_weight

    def between(self, centers: Tensor) -> Tensor:
        """Return lambda_1 sum_{j != k} (cos(c_j, c_k) + 1), a scalar; the cosine of a zero center is 0."""
        squares = centers.square().sum(1, keepdim=True)
        nonzero = squares > 1e-12
        units = torch.where(nonzero, centers, 0) * torch.where(nonzero, squares, 1).rsqrt()
        cosines = units @ units.T
        others = len(centers) * (len(centers) - 1)
        return self.island_weight * (cosines.sum() - cosines.diagonal().sum() + others)

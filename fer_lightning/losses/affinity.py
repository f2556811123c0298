"""Affinity loss of DAN: center loss over the variance between the centers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterRatioHead, CenterUpdate


class AffinityHead(CenterRatioHead):
    """Head with the loss cross-entropy + lambda * ||x_i - c_{y_i}||^2 / (sigma^2 + delta).

    sigma^2 = 1/(C - 1) sum_k ||c_k - mean c||^2 is the variance between the centers. Source: Wen et al.,
    "Distract Your Attention: Multi-Head Cross Attention Network for Facial Expression Recognition", Biomimetics
    2023; without its attention heads and their partition loss. In the paper the centers are learned:
    ``center_update=gradient``.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes; at least two.
        weight: lambda; 1 in the paper.
        delta: keeps the denominator away from zero; not in the paper.
        center_update: see CenterTermHead. Only ``exact`` and ``gradient`` push centers apart.
        center_rate: step size of the centers.

    Raises:
        ValueError: delta is not positive, or there is only one class.
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
            feature_dim,
            class_stats,
            weight=weight,
            delta=delta,
            center_update=center_update,
            center_rate=center_rate,
        )
        if class_stats.num_classes < 2:
            raise ValueError("the affinity loss needs at least two classes: one has no variance between centers")

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """Return (N,) squared distances to the center of the class, over the variance between the centers."""
        distances = (embeddings - centers.index_select(0, labels)).square().sum(1)
        return distances / (centers.var(0).sum() + self.delta)

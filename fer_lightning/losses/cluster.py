"""Cluster loss: center loss relative to the distance of the center of the class from the other centers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fer_lightning.losses.center_term import CenterRatioHead


class ClusterHead(CenterRatioHead):
    """Head with the loss cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2 / D_{y_i}.

    D_k = sum_j ||c_j - c_k||^2 + delta. Source: Ngo & Yoon, "Facial Expression Recognition Based on
    Weighted-Cluster Loss and Deep Transfer Learning Using a Highly Imbalanced Dataset", Sensors 2020, 20(9), 2639,
    as reconstructed from its abstract and independent re-implementations. With the class weights
    ``min_over_count`` it is their weighted-cluster loss.

    The arguments are those of CenterRatioHead. ``weight``, ``delta`` and ``center_rate`` are not in the abstract.
    Only ``center_update=exact`` and ``gradient`` push centers apart.
    """

    running_leaves_out_the_push: ClassVar[bool] = True

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

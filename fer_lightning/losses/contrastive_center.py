"""Contrastive-center loss: the distance to the center of the class relative to those to the other centers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fer_lightning.losses.center_term import CenterRatioHead


class ContrastiveCenterHead(CenterRatioHead):
    """Head with cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2 / (sum_{j != y_i} ||x_i - c_j||^2 + delta).

    Source: Qi & Su, "Contrastive-center loss for deep neural networks", ICIP 2017. It pushes an embedding
    away from the other classes; the cluster loss, which divides by distances between centers, does not.

    The arguments are those of CenterRatioHead. ``delta`` is 1 in the paper, too.
    """

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """Return (N,) half the squared distance to the center of the class over the sum of the others."""
        distances = (embeddings.unsqueeze(1) - centers).square().sum(2)
        near = (F.one_hot(labels, len(centers)).to(distances.dtype) * distances).sum(1)
        return 0.5 * near / (distances.sum(1) - near + self.delta)

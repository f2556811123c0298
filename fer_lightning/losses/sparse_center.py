"""Sparse center loss of DACL: center loss with dimensions weighted by an attention computed from the sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterTermHead, CenterUpdate


class SparseCenterHead(CenterTermHead):
    """Head with the loss cross-entropy + lambda * 1/2 sum_d a_i[d] (x_i[d] - c_{y_i}[d])^2.

    The attention a_i in (0, 1)^D is computed from the sample. Source: Farzaneh & Qi, "Facial Expression
    Recognition in the Wild via Deep Attentive Center Loss", WACV 2021. The attention is trained by this loss,
    and also weights the ``running`` step of the centers. It differs from the paper in two points: its input is the
    embedding, and not the last feature map, so that its layers are smaller; and it has LayerNorm in place of
    BatchNorm, so that a step does not depend on how a batch is split over ranks. Nothing in the formula keeps a_i
    from shrinking: the term can fall because of that alone.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        weight: lambda; 0.01 in the paper.
        center_update: see CenterTermHead; the paper's rule is ``running``.
        center_rate: 0.5 in the paper.
    """

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 0.01,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(
            feature_dim, class_stats, weight=weight, center_update=center_update, center_rate=center_rate
        )
        self.context = nn.Sequential(
            nn.Linear(feature_dim, 512),
            nn.LayerNorm(512),
            nn.ReLU(),
            nn.Linear(512, 64),
            nn.LayerNorm(64),
            nn.Tanh(),
        )
        self.attend = nn.Linear(64, 2 * feature_dim)  # two logits per dimension: in, and out

    def attention(self, embeddings: Tensor) -> Tensor:
        """Return a (N, D): by dimension the softmax of in and out, which is the sigmoid of their difference."""
        with torch.autocast(embeddings.device.type, enabled=False):
            pairs: Tensor = self.attend(self.context(embeddings.to(self.attend.weight.dtype)))
        inside, outside = pairs.chunk(2, dim=1)
        return (inside - outside).sigmoid().to(embeddings.dtype)

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """Return (N,) half the squared distance to the center of the class, weighted by dimension."""
        offsets = embeddings - centers.index_select(0, labels)
        return 0.5 * (self.attention(embeddings) * offsets.square()).sum(1)

    def offsets(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return a_i (x_i - c_{y_i}), (N, D)."""
        return self.attention(embeddings) * super().offsets(embeddings, labels)

"""What heads with a cosine classifier share: embeddings and class vectors of length one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import Positive
from fer_lightning.losses.softmax import SoftmaxHead, at_least_float32


class CosineHead(SoftmaxHead):
    """Logits s * cos(x_i, w_k): a linear classifier without bias, of embeddings and rows scaled to length one.

    Args:
        feature_dim: D.
        class_stats: the C classes.
        scale: s, how far from uniform probabilities can get.

    Raises:
        ValueError: scale is not positive.
    """

    soft_labels: ClassVar[bool] = False

    def __init__(self, feature_dim: int, class_stats: ClassStats, *, scale: Positive) -> None:
        super().__init__(feature_dim, class_stats)
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.scale = scale

    def new_classifier(self, feature_dim: int, classes: int) -> nn.Linear:
        """No bias: it would have no gradient, and DistributedDataParallel refuses such parameters."""
        return nn.Linear(feature_dim, classes, bias=False)

    def logits(self, embeddings: Tensor) -> Tensor:
        """s * cos, (N, C)."""
        with torch.autocast(embeddings.device.type, enabled=False):  # half a per cent of a cosine times s is a lot
            units, rows = (
                F.normalize(at_least_float32(vectors)) for vectors in (embeddings, self.classifier.weight)
            )
            return self.scale * F.linear(units.to(rows.dtype), rows)

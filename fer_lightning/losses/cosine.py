"""Base class of heads with a cosine classifier: embeddings and class vectors of length one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import Positive
from fer_lightning.losses.softmax import SoftmaxHead, at_least_float32


class CosineHead(SoftmaxHead):
    """Head with logits s * cos(x_i, w_k): a linear classifier of embeddings and rows scaled to length one.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        scale: s, the factor of the cosines; the larger, the further probabilities can get from uniform.

    Raises:
        ValueError: scale is not positive.
    """

    soft_labels: ClassVar[bool] = False
    has_bias: ClassVar[bool] = False  # it would be unused, and DistributedDataParallel refuses unused parameters

    def __init__(self, feature_dim: int, class_stats: ClassStats, *, scale: Positive) -> None:
        super().__init__(feature_dim, class_stats)
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.scale = scale

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return s * cos(x_i, w_k), (N, C)."""
        with torch.autocast(embeddings.device.type, enabled=False):  # its rounding error, times s, would be large
            rows = F.normalize(at_least_float32(self.classifier.weight))
            return self.scale * F.linear(F.normalize(at_least_float32(embeddings)).to(rows.dtype), rows)

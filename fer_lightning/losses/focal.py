"""Focal loss: cross-entropy with less weight on samples that are already classified well."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative
from fer_lightning.losses.softmax import SoftmaxHead


class FocalHead(SoftmaxHead):
    """Head with the loss -(1 - p_i[y_i])^gamma log p_i[y_i] of softmax probabilities p_i.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4; their alpha is a class weight.
    torch and torchvision implement it for sigmoids only.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        gamma: exponent; 2 in the paper, and 0 is plain softmax cross-entropy.

    Raises:
        ValueError: gamma is negative.
    """

    soft_labels: ClassVar[bool] = False

    def __init__(self, feature_dim: int, class_stats: ClassStats, *, gamma: NotNegative = 2.0) -> None:
        super().__init__(feature_dim, class_stats)
        if not gamma >= 0:
            raise ValueError(f"gamma must not be negative, got {gamma}")
        self.gamma = gamma

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return cross-entropy times (1 - p)^gamma (N,)."""
        cross_entropy = super().losses(logits, labels)
        # 1 - p without cancellation; not zero, where a power below one has no gradient
        miss = -torch.expm1(-cross_entropy)
        return cross_entropy * miss.clamp_min(torch.finfo(miss.dtype).tiny) ** self.gamma

"""Focal loss: cross-entropy that fades where the network is already right."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative
from fer_lightning.losses.softmax import SoftmaxHead


class FocalHead(SoftmaxHead):
    """-(1 - p_i[y_i])^gamma log p_i[y_i], over softmax probabilities.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4; their alpha is a class weight.
    Written here because torch and torchvision have it for sigmoids only.

    Args:
        feature_dim: D.
        class_stats: the C classes.
        gamma: 2 in the paper; 0 is softmax.

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
        """Cross-entropy (N,) times (1 - p)^gamma."""
        cross_entropy = super().losses(logits, labels)
        # 1 - p without cancellation; kept off zero, where a power below one has no slope
        miss = -torch.expm1(-cross_entropy)
        return cross_entropy * miss.clamp_min(torch.finfo(miss.dtype).tiny) ** self.gamma

"""ArcFace: a margin in the angle between an embedding and its class."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import Positive
from fer_lightning.losses.cosine import CosineHead


class ArcFaceHead(CosineHead):
    """Head with the cross-entropy of s * cos(theta_k + m [k = y_i]), theta_k the angle to the vector of class k.

    Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, eq. 3.
    Beyond theta = pi - m, where the cosine would rise again, the logit continues to fall as cos(theta) - m sin(m).
    The implementation in pytorch-metric-learning has a weight matrix of its own instead of a classifier that the
    next stage can start from.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        margin: m, in radians; 0 is a cosine softmax.
        scale: s, the factor of the cosines.

    Raises:
        ValueError: margin is outside [0, pi), or scale is not positive.
    """

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        margin: Annotated[float, Field(ge=0, lt=math.pi)] = 0.5,
        scale: Positive = 64.0,
    ) -> None:
        super().__init__(feature_dim, class_stats, scale=scale)
        if not 0 <= margin < math.pi:
            raise ValueError(f"margin must be in [0, pi), got {margin}")
        self.margin = margin

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Add the margin to the angle of the label; returns logits (N, C)."""
        cosine = logits / self.scale
        # not zero, where the square root has no gradient
        sine = (1 - cosine.square()).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
        with_margin = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        with_margin = torch.where(cosine > -math.cos(self.margin), with_margin, beyond)
        is_label = F.one_hot(labels, logits.shape[1]).bool()
        return torch.where(is_label, self.scale * with_margin, logits)

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
    """Cross-entropy of s * cos(theta_k + m [k = y_i]), theta_k the angle between embedding and class vector.

    Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, eq. 3.
    Beyond theta = pi - m, where the cosine would rise again, it goes on falling as cos(theta) - m sin(m). Written
    here because pytorch-metric-learning's keeps a weight matrix of its own, which no next stage could start from.

    Args:
        feature_dim: D.
        class_stats: the C classes.
        margin: m, in radians; 0 is a cosine softmax.
        scale: s.

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
        """Logits (N, C) with the margin in the label's angle."""
        cosine = logits / self.scale
        # kept off zero, where a root has no slope
        sine = (1 - cosine.square()).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        turned = torch.where(cosine > -math.cos(self.margin), turned, beyond)
        own = F.one_hot(labels, logits.shape[1]).bool()
        return torch.where(own, self.scale * turned, logits)

"""LDAM loss: a margin that is larger for rarer classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.cosine import CosineHead


class LDAMHead(CosineHead):
    """Head with the cross-entropy of s * (cos - m_k [k = y_i]), with m_k proportional to N_k^(-1/4).

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019.
    Their deferred re-weighting is class_weights.from_epoch.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes and their counts N_k.
        max_margin: margin of the rarest class; 0 is a cosine softmax.
        scale: s, the factor of the cosines.

    Raises:
        ValueError: max_margin is negative, scale is not positive, or a class has no images.
    """

    margins: Tensor

    def __init__(
        self, feature_dim: int, class_stats: ClassStats, *, max_margin: NotNegative = 0.5, scale: Positive = 30.0
    ) -> None:
        super().__init__(feature_dim, class_stats, scale=scale)
        if not max_margin >= 0:
            raise ValueError(f"max_margin must not be negative, got {max_margin}")
        if 0 in class_stats.counts:
            raise ValueError(f"every class needs an image for its margin, got counts {class_stats.counts}")
        fourth_roots = torch.tensor(class_stats.counts, dtype=torch.float64) ** 0.25
        margins = (max_margin * fourth_roots.min() / fourth_roots).to(torch.get_default_dtype())
        self.register_buffer("margins", margins, persistent=False)

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Subtract s * m_{y_i} from the logit of the label; returns logits (N, C)."""
        return logits - self.scale * self.margins * F.one_hot(labels, logits.shape[1])

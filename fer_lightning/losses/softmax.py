"""Softmax cross-entropy: the baseline, and what every other head adds to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.contracts import ClassStats, HeadOutput


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values as float32, others unchanged: losses are never computed in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


class SoftmaxHead(nn.Module):
    """Linear classifier with softmax cross-entropy, -log p_i[y_i].

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
    """

    def __init__(self, feature_dim: int, class_stats: ClassStats) -> None:
        super().__init__()
        self.classifier = nn.Linear(feature_dim, class_stats.num_classes)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Logits (N, C) of features (N, D) and, given labels (N,) as class indices, the losses (N,).

        Raises:
            ValueError: labels are not one class index a sample.
        """
        logits = self.classifier(features)
        if labels is None:
            return HeadOutput(logits)
        if labels.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} takes labels (N,) as class indices, not {tuple(labels.shape)}"
            )
        losses = F.cross_entropy(at_least_float32(logits), labels, reduction="none")
        return HeadOutput(logits, losses, {"cross_entropy": losses})

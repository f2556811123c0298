"""Logit-adjusted loss: the class frequencies are part of the softmax in training, and not in prediction."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative
from fer_lightning.losses.softmax import SoftmaxHead


class LogitAdjustedHead(SoftmaxHead):
    """Head with the cross-entropy of z + tau * log pi, where pi_k = N_k / N.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 10.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes and their counts N_k.
        tau: strength of the adjustment; 1 is the balanced softmax, 0 plain softmax.

    Raises:
        ValueError: tau is negative, or a class has no images.
    """

    corrects_imbalance: ClassVar[bool] = True
    log_prior: Tensor

    def __init__(self, feature_dim: int, class_stats: ClassStats, *, tau: NotNegative = 1.0) -> None:
        super().__init__(feature_dim, class_stats)
        if not tau >= 0:
            raise ValueError(f"tau must not be negative, got {tau}")
        if 0 in class_stats.counts:
            raise ValueError(f"every class needs an image for its share, got counts {class_stats.counts}")
        self.tau = tau
        counts = torch.tensor(class_stats.counts, dtype=torch.float64)
        log_prior = (counts / counts.sum()).log().to(torch.get_default_dtype())
        self.register_buffer("log_prior", log_prior, persistent=False)

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return z + tau * log pi, (N, C)."""
        return logits + self.tau * self.log_prior

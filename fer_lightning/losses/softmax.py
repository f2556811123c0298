"""Softmax cross-entropy: the baseline, and the base class of all other heads."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats, HeadOutput
from fer_lightning.core.ranges import ShareBelowOne


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision values as float32 and others unchanged; losses are not computed in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


class SoftmaxHead(nn.Module):
    """Head with a linear classifier and softmax cross-entropy, -log p_i[y_i] (torch's, unreduced).

    Other heads override ``logits``, ``training_logits`` or ``losses``.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        label_smoothing: epsilon; the target is (1 - epsilon) one-hot + epsilon / C (Szegedy et al., CVPR 2016).

    Attributes:
        soft_labels: whether labels can be distributions (N, C).
        corrects_imbalance: whether the loss itself corrects for the sizes of the classes.
        has_bias: whether the classifier has a bias.

    Raises:
        ValueError: label_smoothing is outside [0, 1).
    """

    soft_labels: ClassVar[bool] = True
    corrects_imbalance: ClassVar[bool] = False
    has_bias: ClassVar[bool] = True

    def __init__(self, feature_dim: int, class_stats: ClassStats, *, label_smoothing: ShareBelowOne = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.classifier = nn.Linear(feature_dim, class_stats.num_classes, bias=self.has_bias)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits (N, C) that classes are predicted from."""
        logits: Tensor = self.classifier(embeddings)
        return logits

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (N, C) that the loss is computed from, with margins or priors."""
        return logits

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the losses (N,) of training logits (N, C), which are at least float32."""
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Return logits (N, C) and, given labels, the losses (N,).

        Args:
            embeddings: x (N, D).
            labels: class indices (N,) or, if the head takes soft labels, distributions (N, C).

        Raises:
            ValueError: labels are of neither kind.
        """
        logits = self.logits(embeddings)
        if labels is None:
            return HeadOutput(logits)
        soft = self.soft_labels and labels.shape == logits.shape and labels.is_floating_point()
        if labels.ndim != 1 and not soft:
            kinds = "labels (N,) as class indices" + (" or (N, C) as distributions" if self.soft_labels else "")
            raise ValueError(f"{type(self).__name__} takes {kinds}, not of shape {tuple(labels.shape)}")
        losses = self.losses(self.training_logits(at_least_float32(logits), labels), labels)
        return HeadOutput(logits, losses, {"cross_entropy": losses})

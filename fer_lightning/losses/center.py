"""Center loss: pull each embedding towards the center of its class."""

from __future__ import annotations

from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_term import CenterTermHead, CenterUpdate


class CenterHead(CenterTermHead):
    """Cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2.

    Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, eq. 2.

    Args:
        feature_dim: D.
        class_stats: the C classes.
        weight: lambda. 0.01 is our untuned default.
        center_update: see CenterTermHead; the paper's rule is ``running``.
        center_rate: the paper's alpha.
    """

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 0.01,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(
            feature_dim, class_stats, weight=weight, center_update=center_update, center_rate=center_rate
        )

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """(N,): half the squared distance of each embedding to the center of its class."""
        # index_select, not centers[labels]: its backward repeats to the last digit on several threads
        return 0.5 * (embeddings - centers.index_select(0, labels)).square().sum(1)

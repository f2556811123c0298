"""Center loss: it pulls each embedding towards the center of its class."""

from __future__ import annotations

from torch import Tensor

from fer_lightning.losses.center_term import CenterTermHead


class CenterHead(CenterTermHead):
    """Head with the loss cross-entropy + lambda * 1/2 ||x_i - c_{y_i}||^2.

    Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, eq. 2.
    The arguments are those of CenterTermHead; the paper's rule is ``running``, and ``center_rate`` its alpha.
    """

    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """Return (N,) half the squared distance of each embedding to the center of its class."""
        # unlike that of centers[labels], the backward pass of index_select is deterministic on several threads
        return 0.5 * (embeddings - centers.index_select(0, labels)).square().sum(1)

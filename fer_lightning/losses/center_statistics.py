"""Class means of embeddings, and the distance of centers from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def class_means(
    embeddings: Tensor, labels: Tensor, classes: int, over_ranks: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return the means (C, D) of embeddings (N, D) by class, summed in float64.

    Args:
        embeddings: x (N, D).
        labels: class indices (N,).
        classes: C.
        over_ranks: sums a tensor over all ranks, where each has embeddings of its own; None: there is one process.

    Raises:
        ValueError: a class has no embedding.
    """
    sums = torch.zeros(classes, embeddings.shape[1] + 1, dtype=torch.float64)  # and the counts as last column
    sums.index_add_(0, labels, F.pad(embeddings.double(), (0, 1), value=1.0))
    if over_ranks is not None:
        sums = over_ranks(sums)
    totals, counts = sums[:, :-1], sums[:, -1:]
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0, 0])} has no embedding to take the mean of")
    return (totals / counts).to(embeddings.dtype)


def class_sums(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return by class the sum of values (N, D), and the count as last column, (C, D + 1).

    A matrix product is deterministic, unlike ``index_add_`` on a GPU.
    """
    members = F.one_hot(labels, classes).to(values.dtype).T
    return torch.cat([members @ values, members.sum(1, keepdim=True)], 1)


def center_drift(centers: Tensor, means: Tensor, grand_mean: Tensor) -> Tensor:
    """Return ||c_k - m_k|| / ||m_k - m|| (C,), the distance of each center from the mean of its class.

    The unit is the distance of the class mean from the mean of all embeddings.

    Args:
        centers: centers c_k (C, D).
        means: class means m_k (C, D).
        grand_mean: mean m (D,) of all embeddings.
    """
    norm = torch.linalg.vector_norm
    drift: Tensor = norm(centers - means, dim=1) / norm(means - grand_mean, dim=1)
    return drift

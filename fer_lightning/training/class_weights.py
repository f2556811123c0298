"""Class weights from class counts: one function (counts) -> w (C,) per scheme, and their normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fer_lightning.core.errors import did_you_mean
from fer_lightning.core.ranges import Normalise, NotNegative, Positive, ShareBelowOne


def _tensor(weights: Tensor) -> Tensor:
    """Convert weights from float64, in which they are computed, to torch's default dtype."""
    return weights.to(torch.get_default_dtype())


def _positive(counts: Sequence[int] | Tensor) -> Tensor:
    values = torch.as_tensor(counts, dtype=torch.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"class counts must be a list of numbers, got {counts}")
    if (values <= 0).any():
        raise ValueError(f"every class needs an image to get a weight, got counts {values.long().tolist()}")
    return values


def none(counts: Sequence[int] | Tensor) -> Tensor:
    """Return ones (C,).

    Raises:
        ValueError: a class has no images; the other schemes raise it, too.
    """
    return _tensor(torch.ones_like(_positive(counts)))


def min_over_count(counts: Sequence[int] | Tensor) -> Tensor:
    """Return N_min / N_k (C,), the weights of the weighted-softmax and weighted-cluster loss (Ngo & Yoon 2020)."""
    values = _positive(counts)
    return _tensor(values.min() / values)


def inverse(counts: Sequence[int] | Tensor) -> Tensor:
    """Return N / (C N_k) (C,): each class has the same total weight (King & Zeng 2001)."""
    values = _positive(counts)
    return _tensor(values.sum() / (len(values) * values))


def sqrt_inverse(counts: Sequence[int] | Tensor) -> Tensor:
    """Return the square root of ``inverse`` (C,), half way on a log scale between ones and ``inverse``."""
    return inverse(counts).sqrt()


def power(counts: Sequence[int] | Tensor, gamma: NotNegative = 0.5) -> Tensor:
    """Return ``inverse`` to the power gamma (C,): 0 is none, 0.5 sqrt_inverse, 1 inverse.

    Raises:
        ValueError: gamma is negative.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma must not be negative, got {gamma}")
    return inverse(counts) ** gamma


def median_frequency(counts: Sequence[int] | Tensor) -> Tensor:
    """Return median(N) / N_k (C,) (Eigen & Fergus, ICCV 2015); proportional to inverse and min_over_count."""
    values = _positive(counts)
    return _tensor(values.quantile(0.5) / values)


def effective_number(counts: Sequence[int] | Tensor, beta: ShareBelowOne = 0.9999) -> Tensor:
    """Return (1 - beta) / (1 - beta^N_k) (C,), scaled to sum C (Cui et al., CVPR 2019, eq. 2 and section 4.1).

    Raises:
        ValueError: beta is outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta}")
    values = _positive(counts)
    weights = (1 - beta) / (1 - torch.pow(beta, values))
    return _tensor(weights * len(values) / weights.sum())


def manual(
    counts: Sequence[int] | Tensor, class_names: Sequence[str], weights: dict[str, Positive] | None = None
) -> Tensor:
    """Return the weights (C,) that the user gives by class name.

    Raises:
        ValueError: a class has none, a name is no class, or a weight is not positive.
    """
    given = weights or {}
    missing = [name for name in class_names if name not in given]
    unknown = [f"{name}{did_you_mean(name, class_names)}" for name in given if name not in class_names]
    if missing or unknown:
        of_both = (("missing", missing), ("no class", unknown))
        reasons = "; ".join(f"{what}: {', '.join(names)}" for what, names in of_both if names)
        raise ValueError(f"weights must name every class of data.classes; {reasons}")
    if wrong := [name for name in class_names if not 0 < given[name] < float("inf")]:
        raise ValueError(f"weights.{wrong[0]} must be a positive number, got {given[wrong[0]]}")
    values = [given[name] for name in class_names]
    return _tensor(torch.ones_like(_positive(counts)) * torch.tensor(values, dtype=torch.float64))


def normalise(weights: Tensor, counts: Sequence[int] | Tensor, normalisation: Normalise) -> Tensor:
    """Return scaled weights (C,).

    Args:
        weights: w (C,).
        counts: N_k (C,).
        normalisation: ``as_is`` leaves the weights, ``mean_one`` makes their mean 1, and ``expected_one`` makes
            sum_k p_k w_k = 1. With the last, weights average to one over a batch, so that a scheme changes which
            images count and not the size of steps: N_min / N_k as it is multiplies the learning rate by 0.10 on
            AffectNet.

    Raises:
        ValueError: normalisation is unknown.
    """
    if normalisation == "as_is":
        return weights
    if normalisation == "mean_one":
        return weights / weights.mean()
    if normalisation == "expected_one":
        values = _positive(counts)
        return _tensor(weights * values.sum() / (values * weights).sum())
    raise ValueError(f"class_weights.normalise must be as_is, mean_one or expected_one, got {normalisation}")

"""Mixing of training pictures and their labels within a batch, before the backbone sees them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fer_lightning.core.ranges import Positive

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function of float pictures (N, 3, H, W), 0..255, and of labels as distributions (N, C), that returns both."""


def none() -> None:
    """Return no mixing."""
    return


def mixup(*, alpha: Positive) -> Mixing:
    """Return mixup: lambda x_i + (1 - lambda) x_j, and labels alike, with lambda ~ Beta(alpha, alpha) for a batch.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; by torchvision.
    """
    from torchvision.transforms.v2 import MixUp  # seconds of imports

    mixing: Mixing = MixUp(alpha=alpha)
    return mixing


def cutmix(*, alpha: Positive) -> Mixing:
    """Return CutMix: a rectangle of 1 - lambda of x_i's area comes from x_j, labels are mixed by the areas.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    ICCV 2019; by torchvision.
    """
    from torchvision.transforms.v2 import CutMix  # seconds of imports

    mixing: Mixing = CutMix(alpha=alpha)
    return mixing

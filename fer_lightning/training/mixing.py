"""Mixing of training pictures and their labels within a batch, before the backbone sees them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fer_lightning.core.ranges import Positive

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from float pictures (N, 3, H, W) in 0..255 and labels as distributions (N, C) to mixed ones."""


def none() -> None:
    """Return no mixing."""


def mixup(*, alpha: Positive) -> Mixing:
    """Return mixup: lambda x_i + (1 - lambda) x_j and likewise labels, lambda ~ Beta(alpha, alpha) per batch.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    The implementation is torchvision's.
    """
    from torchvision.transforms.v2 import MixUp  # the import takes seconds

    mixing: Mixing = MixUp(alpha=alpha)
    return mixing


def cutmix(*, alpha: Positive) -> Mixing:
    """Return CutMix: a rectangle with 1 - lambda of the area comes from x_j, and labels are mixed by area.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    ICCV 2019. The implementation is torchvision's.
    """
    from torchvision.transforms.v2 import CutMix  # the import takes seconds

    mixing: Mixing = CutMix(alpha=alpha)
    return mixing

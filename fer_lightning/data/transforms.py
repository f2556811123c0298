"""Augmentations: albumentations pipelines whose draws are a pure function of (seed, epoch, index, showing)."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Augmentation = Callable[[Image, np.random.SeedSequence], Image]


def none() -> None:
    """No augmentation: the picture as it lies in the store, in training as in the test."""


def paper(*, flip: float, rotate: float, scale: float, translate: float) -> Augmentation:
    """Horizontal flip and one light affine warp. Not stated by the paper's abstract: our choice.

    Args:
        flip: probability of a horizontal flip.
        rotate: at most so many degrees to either side.
        scale: size changes by at most this share.
        translate: at most this share of the picture, by axis.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network at import
    import albumentations

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an argument it does not know is only a warning there
        pipeline = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=flip),
                albumentations.Affine(
                    rotate=(-rotate, rotate),
                    scale=(1 - scale, 1 + scale),
                    translate_percent=(-translate, translate),
                    p=1.0,
                ),
            ]
        )

    def augment(image: Image, seed: np.random.SeedSequence) -> Image:
        generator = np.random.default_rng(seed)
        pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        augmented: Image = pipeline(image=image)["image"]
        return augmented

    return augment

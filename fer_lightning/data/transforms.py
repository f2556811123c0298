"""Transforms from stored picture to network input: the square in the middle, augmented at random for training."""

from __future__ import annotations

import math
import os
import random
import warnings
from typing import Annotated, Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, validate_call
from pydantic.dataclasses import dataclass

from fer_lightning.core.ranges import Share

Degrees = Annotated[float, Field(ge=0, le=180)]
SizeChange = Annotated[float, Field(ge=0, le=0.9)]
Image = npt.NDArray[np.uint8]


class Augmentation(Protocol):
    """A random view of a picture that depends on a generator alone, so that copies in other processes agree."""

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        """Fill ``out`` (C, C, 3) with a view of ``image`` (S, S, 3), C <= S, which does not change."""


def middle(image: Image, side: int) -> Image:
    """Return the square (side, side, 3) in the middle of a picture (S, S, 3), as a view."""
    start = (len(image) - side) // 2
    return image[start : start + side, start : start + side]


@dataclass(frozen=True)
class Geometry:
    """A flip, then a rotation and a scaling about the middle, then a shift, then a crop of the middle.

    All of it is one warp, directly into the network's input; the picture is reflected at its border.

    Args:
        flip: probability of a horizontal flip.
        rotate: largest rotation to either side, in degrees.
        scale: largest change of size, as a share.
        translate: largest shift along each axis, as a share of the picture's side.

    Raises:
        ValueError: a number is out of range.
    """

    flip: Share
    rotate: Degrees
    scale: SizeChange
    translate: Share

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        """See Augmentation."""
        rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)  # four channels take half the time, with equal result
        warped = cv2.warpAffine(
            rgba,
            self.matrix(generator.random(5), len(image), len(out)),
            out.shape[:2],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)

    def matrix(self, draws: npt.NDArray[np.float64], side: int, seen: int) -> npt.NDArray[np.float64]:
        """Return the matrix (2, 3) from positions (x, y, 1) in the crop to positions (x, y) in the picture.

        Args:
            draws: (5,) random numbers in [0, 1).
            side: side of the picture in pixels.
            seen: side of the crop in pixels.
        """
        turn, growth, right, down = (2 * draws[1:] - 1).tolist()
        angle, size, shift = math.radians(self.rotate * turn), 1 + self.scale * growth, self.translate * side
        cos, sin = math.cos(angle) / size, math.sin(angle) / size
        mirror = -1 if draws[0] < self.flip else 1
        x, y = (seen - 1) / 2 + shift * right, (seen - 1) / 2 + shift * down  # position of the middle in the crop
        centre = (side - seen) // 2 + (seen - 1) / 2  # its position in the picture, as in ``middle``
        return np.array(
            [
                [mirror * cos, mirror * sin, centre - mirror * (cos * x + sin * y)],
                [-sin, cos, centre + sin * x - cos * y],
            ]
        )


@dataclass(frozen=True)
class Altered:
    """A geometry, followed by albumentations' changes of the pixels.

    Args:
        geometry: applied first.
        pixels: an albumentations.Compose that keeps the size.
    """

    geometry: Geometry
    pixels: Any

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        """See Augmentation."""
        self.geometry(image, generator, out)
        # without this, all workers and all epochs would use the same state
        self.pixels.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        out[...] = self.pixels(image=out)["image"]


def none() -> None:
    """Return no augmentation: training sees the middle of the picture, as the test does."""


def paper(*, flip: Share, rotate: Degrees, scale: SizeChange, translate: Share) -> Augmentation:
    """Return a horizontal flip and light geometry; see Geometry. Our choice: the paper's abstract states none."""
    return Geometry(flip=flip, rotate=rotate, scale=scale, translate=translate)


@validate_call
def strong(
    *,
    flip: Share,
    rotate: Degrees,
    scale: SizeChange,
    translate: Share,
    colour: Share,
    grey: Share,
    blur: Share,
    noise: Share,
    cutout: Share,
) -> Augmentation:
    """Return wider geometry, and changes of light, colour and sharpness, noise and occlusion. Our choice.

    Args:
        flip: see Geometry.
        rotate: see Geometry.
        scale: see Geometry.
        translate: see Geometry.
        colour: largest change of brightness, contrast and saturation, as a share; of the hue it is a tenth.
        grey: probability that the colours are removed.
        blur: probability of a Gaussian blur, sigma 0.5 to 1.5 pixels.
        noise: probability of Gaussian noise, standard deviation 2 to 8 % of white.
        cutout: probability that a rectangle is filled with noise, each side 0.1 to 0.4 of the picture's.

    Raises:
        ValueError: a number is out of range.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network at import
    import albumentations

    around_one = (1 - colour, 1 + colour)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # for albumentations an unknown argument is only a warning
        pixels = albumentations.Compose(
            [
                albumentations.ColorJitter(around_one, around_one, around_one, (-colour / 10, colour / 10), p=1.0),
                albumentations.ToGray(p=grey),
                albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.5), p=blur),
                albumentations.GaussNoise(std_range=(0.02, 0.08), p=noise),
                albumentations.CoarseDropout((1, 1), (0.1, 0.4), (0.1, 0.4), fill="random", p=cutout),
            ]
        )
    return Altered(Geometry(flip=flip, rotate=rotate, scale=scale, translate=translate), pixels)

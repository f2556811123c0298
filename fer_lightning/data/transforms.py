"""What the network sees of a kept picture: the square in its middle, moved and altered at random for training."""

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
    """A random view of a picture, drawn from a generator alone; copies in other processes draw the same."""

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        """Fill ``out`` (C, C, 3) with a view of ``image`` (S, S, 3), C <= S; the picture is not written to."""


def middle(image: Image, side: int) -> Image:
    """The (side, side, 3) square in the middle of a picture (S, S, 3), without a copy."""
    start = (len(image) - side) // 2
    return image[start : start + side, start : start + side]


@dataclass(frozen=True)
class Geometry:
    """A flip, then a turn and a change of size about the middle, then a shift, then the middle is cut out.

    All of it is one warp, straight into the network's input; beyond its border the picture is reflected.

    Args:
        flip: probability of a horizontal flip.
        rotate: at most so many degrees to either side.
        scale: size changes by at most this share.
        translate: at most this share of the picture's side, by axis.

    Raises:
        ValueError: a number is out of range.
    """

    flip: Share
    rotate: Degrees
    scale: SizeChange
    translate: Share

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        """See Augmentation."""
        four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)  # channels: they take half the time of three, to the digit
        warped = cv2.warpAffine(
            four,
            self.matrix(generator.random(5), len(image), len(out)),
            out.shape[:2],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)

    def matrix(self, draws: npt.NDArray[np.float64], side: int, seen: int) -> npt.NDArray[np.float64]:
        """From places (x, y, 1) in what is seen to places (x, y) in the picture: (2, 3).

        Args:
            draws: (5,) in [0, 1).
            side: of the picture in pixels.
            seen: side of what is cut out in pixels.
        """
        turn, growth, right, down = (2 * draws[1:] - 1).tolist()
        angle, size, shift = math.radians(self.rotate * turn), 1 + self.scale * growth, self.translate * side
        cos, sin = math.cos(angle) / size, math.sin(angle) / size
        mirror = -1 if draws[0] < self.flip else 1
        x, y = (seen - 1) / 2 + shift * right, (seen - 1) / 2 + shift * down  # where the middle is seen
        centre = (side - seen) // 2 + (seen - 1) / 2  # and where it is in the picture: that of ``middle``
        return np.array(
            [
                [mirror * cos, mirror * sin, centre - mirror * (cos * x + sin * y)],
                [-sin, cos, centre + sin * x - cos * y],
            ]
        )


@dataclass(frozen=True)
class Altered:
    """A geometry, and then albumentations' changes of the pixels it gives.

    Args:
        geometry: first.
        pixels: an albumentations.Compose that keeps the size.
    """

    geometry: Geometry
    pixels: Any

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        """See Augmentation."""
        self.geometry(image, generator, out)
        # its own state would be the same in all workers, and again in every epoch
        self.pixels.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        out[...] = self.pixels(image=out)["image"]


def none() -> None:
    """No augmentation: the middle of the picture, in training as in the test."""


def paper(*, flip: Share, rotate: Degrees, scale: SizeChange, translate: Share) -> Augmentation:
    """Horizontal flip and light geometry. Not stated by the paper's abstract: our choice. See Geometry."""
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
    """Wider geometry, and light, colour, sharpness, noise and what hides a part of the face. Our choice.

    Args:
        flip: see Geometry.
        rotate: see Geometry.
        scale: see Geometry.
        translate: see Geometry.
        colour: brightness, contrast and saturation change by at most this share, the hue by a tenth of it.
        grey: probability that the colours are taken away.
        blur: probability of a Gaussian blur, sigma 0.5 to 1.5 pixels.
        noise: probability of Gaussian noise, standard deviation 2 to 8 % of white.
        cutout: probability that a rectangle is filled with noise, each side 0.1 to 0.4 of the picture's.

    Raises:
        ValueError: a number is out of range.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network at import
    import albumentations

    around_one = (1 - colour, 1 + colour)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an argument it does not know is only a warning there
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

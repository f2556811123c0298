"""What the network sees: the exact middle in the test; in training one warp, a function of its generator alone."""

from __future__ import annotations

import math
import pickle
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import make
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError
from fer_lightning.data.transforms import Augmentation, Geometry, middle, none, paper, strong

SIZE = 48
PAPER = {"flip": 0.5, "rotate": 10.0, "scale": 0.1, "translate": 0.05}
STILL = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "translate": 0.0}
WIDE = {"flip": 0.5, "rotate": 30.0, "scale": 0.3, "translate": 0.2}
PLAIN = {"colour": 0.0, "grey": 0.0, "blur": 0.0, "noise": 0.0, "cutout": 0.0}

Image = NDArray[np.uint8]


def noise(side: int = SIZE, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def smooth(side: int) -> Image:
    """A picture whose interpolation twice over is nearly that once."""
    y, x = np.mgrid[:side, :side] / side
    channels = [np.sin(5 * x + 2 * y), np.cos(4 * y - x), np.sin(3 * x * y + 1)]
    return (128 + 120 * np.stack(channels, 2)).astype(np.uint8)  # never black


def view(augment: Augmentation, image: Image, *numbers: int, seen: int | None = None) -> Image:
    side = seen or len(image)
    out = np.full((side, side, 3), 77, np.uint8)
    augment(image, np.random.default_rng(numbers), out)
    return out


def options() -> list[str]:
    return [name for name in groups()["transform"] if name != "none"]


def option(name: str) -> Augmentation:
    made: Augmentation = make("transform", compose([f"transform={name}"])["transform"])
    return made


def step_by_step(geometry: Geometry, draws: Any, side: int, seen: int) -> Any:
    """The way from the picture to what is seen as four matrices, one after the other."""
    turn, growth, right, down = 2 * draws[1:] - 1
    start = (side - seen) // 2
    centre = np.array([[1, 0, start + (seen - 1) / 2], [0, 1, start + (seen - 1) / 2], [0, 0, 1]])
    flip = np.diag([-1.0 if draws[0] < geometry.flip else 1.0, 1, 1])
    angle, size = math.radians(geometry.rotate * turn), 1 + geometry.scale * growth
    rotation = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    shift, cut = np.eye(3), np.eye(3)
    shift[:2, 2] = geometry.translate * side * right, geometry.translate * side * down
    cut[:2, 2] = -start
    back = np.linalg.inv(centre)
    return cut @ shift @ (centre @ np.diag([size, size, 1]) @ rotation @ back) @ (centre @ flip @ back)


@pytest.mark.parametrize(("side", "seen"), [(48, 48), (64, 48), (65, 48), (64, 49), (256, 224)])
def test_the_matrix_is_flip_turn_and_size_shift_and_crop_in_this_order(side: int, seen: int) -> None:
    geometry, generator = Geometry(**WIDE), np.random.default_rng(0)
    for _ in range(50):
        draws = generator.random(5)
        found = np.vstack([geometry.matrix(draws, side, seen), [0, 0, 1]])
        assert np.allclose(found @ step_by_step(geometry, draws, side, seen), np.eye(3), atol=1e-9)


def test_one_warp_shows_what_four_steps_over_pixels_show() -> None:
    side, seen = 96, 64
    image, geometry = smooth(side), Geometry(flip=1.0, rotate=20.0, scale=0.2, translate=0.1)
    for seed in range(10):
        turn, growth, right, down = 2 * np.random.default_rng([seed]).random(5)[1:] - 1
        flipped = np.ascontiguousarray(image[:, ::-1])
        centre = ((side - 1) / 2, (side - 1) / 2)
        turned = cv2.warpAffine(
            flipped, cv2.getRotationMatrix2D(centre, -20 * turn, 1 + 0.2 * growth), (side, side)
        )
        moved = cv2.warpAffine(turned, np.array([[1, 0, 9.6 * right], [0, 1, 9.6 * down]]), (side, side))
        black = (moved == 0).any(2).astype(np.uint8)  # the steps fill with it what the warp reflects
        inside = cv2.dilate(black, np.ones((5, 5), np.uint8))[16:80, 16:80] == 0
        assert inside.mean() > 0.8
        found = view(geometry, image, seed, seen=seen).astype(int)
        assert np.abs(found - moved[16:80, 16:80])[inside].max() <= 2


@pytest.mark.parametrize(("side", "seen"), [(48, 48), (64, 48), (65, 48), (64, 49)])
def test_the_middle_is_pure_slicing(side: int, seen: int) -> None:
    image = noise(side)
    start = (side - seen) // 2
    found = middle(image, seen)
    assert np.shares_memory(found, image)
    assert np.array_equal(found, image[start : start + seen, start : start + seen])
    assert np.array_equal(view(paper(**STILL), image, 0, seen=seen), found)


@pytest.mark.parametrize("seen", [48, 32, 31])
def test_a_flip_mirrors_what_the_test_sees(seen: int) -> None:
    image = noise()
    assert np.array_equal(view(paper(**{**STILL, "flip": 1.0}), image, 0, seen=seen), middle(image, seen)[:, ::-1])


def test_what_a_shift_brings_in_is_reflected() -> None:
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    assert all((view(paper(**WIDE), white, seed) == 255).all() for seed in range(20))


def test_around_a_crop_lies_the_rest_of_the_picture() -> None:
    """A shift by less than the crop leaves off shows what the store has there, not a reflection."""
    image = smooth(64)
    seen = view(paper(**{**STILL, "translate": 0.1}), image, 3, seen=48).astype(int)
    right, down = 6.4 * (2 * np.random.default_rng([3]).random(5)[3:] - 1)
    moved = cv2.warpAffine(image, np.array([[1, 0, right], [0, 1, down]]), (64, 64))[8:56, 8:56].astype(int)
    assert np.abs(seen - moved).max() <= 2


@pytest.mark.parametrize("name", options())
def test_a_view_depends_on_its_generator_alone(name: str) -> None:
    image, one, other = noise(), option(name), option(name)
    for seed in range(10):
        expected = view(one, image, 0, 1, seed, 0, seen=40)
        view(other, image, 5, seed)  # an earlier draw
        np.random.seed(seed)  # noqa: NPY002
        assert np.array_equal(view(other, image, 0, 1, seed, 0, seen=40), expected)
        assert not np.array_equal(view(one, image, 0, 1, seed + 1, 0, seen=40), expected)


@pytest.mark.parametrize("name", options())
def test_the_picture_in_the_store_is_not_written_to(name: str) -> None:
    image = noise()
    image.flags.writeable = False
    for seed in range(5):
        view(option(name), image, seed)
    assert np.array_equal(image, noise())


@pytest.mark.parametrize("name", options())
def test_a_spawned_loader_process_gets_the_same_augmentation(name: str) -> None:
    augment = option(name)
    copy = pickle.loads(pickle.dumps(augment))
    assert np.array_equal(view(copy, noise(), 4), view(augment, noise(), 4))


def test_a_flip_probability_of_a_half_flips_half_of_the_pictures() -> None:
    image, augment = noise(), paper(**{**STILL, "flip": 0.5})
    flipped = [np.array_equal(view(augment, image, 0, 0, index), image[:, ::-1]) for index in range(400)]
    assert 160 < sum(flipped) < 240


@pytest.mark.parametrize("what", ["rotate", "scale", "translate"])
def test_each_number_warps_by_itself(what: str) -> None:
    image, augment = noise(), paper(**{**STILL, what: PAPER[what]})
    assert sum(not np.array_equal(view(augment, image, 0, 0, index), image) for index in range(20)) > 15


def test_the_flip_does_not_tell_the_angle() -> None:
    augment = paper(**{**STILL, "flip": 0.5, "rotate": 20.0})
    across = np.tile(np.arange(41, dtype=np.uint8)[None, :, None], (41, 1, 3))  # brighter to the right
    seen = set()
    for index in range(60):
        warped = view(augment, across, 0, 0, index).astype(int)[..., 0]
        seen.add((bool(warped[20, 10] > warped[20, 30]), bool(warped[10, 20] > warped[30, 20])))
    assert len(seen) == 4


def test_strong_without_its_changes_of_pixels_is_geometry() -> None:
    image = noise()
    for seed in range(5):
        assert np.array_equal(view(strong(**WIDE, **PLAIN), image, seed), view(paper(**WIDE), image, seed))


@pytest.mark.parametrize("what", PLAIN)
def test_each_change_of_pixels_is_one(what: str) -> None:
    image = smooth(SIZE)
    augment = strong(**STILL, **{**PLAIN, what: 0.5 if what == "colour" else 1.0})
    found = view(augment, image, 0)
    assert not np.array_equal(found, image)
    if what == "grey":
        assert (np.ptp(found, axis=2) == 0).all()
    if what == "cutout":
        hidden = (found != image).any(2).mean()
        assert 0.005 < hidden <= 0.4**2 + 0.05


@pytest.mark.parametrize(("key", "value"), [("flip", 1.5), ("scale", 1.0), ("rotate", -3.0), ("cutout", 2.0)])
@pytest.mark.parametrize("name", options())
def test_a_number_out_of_range_is_refused(name: str, key: str, value: float) -> None:
    node = compose([f"transform={name}"])["transform"]
    if key in node:
        with pytest.raises(UserError, match=rf"transform: .*\s{key}\s.* or equal to .*input_value={value}"):
            make("transform", {**node, key: value})


def test_none_is_no_augmentation() -> None:
    assert none() is None


def test_an_argument_that_albumentations_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it is only a warning, and the default is used: a misspelt name would go unnoticed."""
    monkeypatch.setattr(albumentations, "ToGray", lambda p: albumentations.HorizontalFlip(probability=p))
    with pytest.raises(UserWarning, match="probability"):
        strong(**STILL, **PLAIN)

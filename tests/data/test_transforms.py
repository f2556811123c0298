"""Augmentation is a function of (seed, epoch, index, showing) alone: not of workers, ranks or earlier draws."""

import os

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from fer_lightning.data.datamodule import FaceDataset
from fer_lightning.data.samplers import GlobalBatches, Pick, shuffle
from fer_lightning.data.transforms import Augmentation, none, paper

SIZE = 48
PAPER = {"flip": 0.5, "rotate": 10.0, "scale": 0.1, "translate": 0.05}
STILL = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "translate": 0.0}

Image = NDArray[np.uint8]


class Faces:
    """What a data set needs of a StoreSplit."""

    labels = np.arange(16) % 3

    def image(self, row: int) -> Image:
        return np.random.default_rng(row).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def dataset(augment: Augmentation | None = None, seed: int = 0) -> FaceDataset:
    rows = np.arange(16)[::-1].copy()
    return FaceDataset(Faces(), rows, augment or paper(**PAPER), seed)  # type: ignore[arg-type]


def seeds(*numbers: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(numbers)


def epoch_of_batches(workers: int, epoch: int, rank: int = 0, ranks: int = 1) -> dict[int, torch.Tensor]:
    """The pictures of an epoch by index, as a loader with so many workers gives them."""
    faces = dataset()
    batches = GlobalBatches(Faces.labels, shuffle, 4, 0, rank, ranks)
    batches.set_epoch(epoch)
    order = [index for batch in batches for index, _, _ in batch]
    images = torch.cat([images for images, _ in DataLoader(faces, batch_sampler=batches, num_workers=workers)])
    return dict(zip(order, images, strict=True))


def same(a: dict[int, torch.Tensor], b: dict[int, torch.Tensor]) -> list[bool]:
    return [torch.equal(a[index], b[index]) for index in a.keys() & b.keys()]


def test_a_draw_depends_on_seed_epoch_index_and_showing_alone() -> None:
    faces, again = dataset(), dataset()
    expected = faces[Pick(7, 3, 0)][0]
    for other in (Pick(6, 3, 0), Pick(7, 4, 0), Pick(7, 3, 1), Pick(0, 0, 0)):
        assert not torch.equal(again[other][0], expected)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(again[Pick(7, 3, 0)][0], expected)


@pytest.mark.parametrize("numbers", [(1, 3, 7), (0, 4, 7), (0, 3, 8)])
def test_one_picture_is_warped_otherwise_by_another_seed_epoch_or_index(numbers: tuple[int, int, int]) -> None:
    image, augment = Faces().image(0), paper(**PAPER)
    assert not np.array_equal(augment(image, seeds(0, 3, 7)), augment(image, seeds(*numbers)))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(workers: int) -> None:
    alone, helped = epoch_of_batches(0, 1), epoch_of_batches(workers, 1)
    assert list(alone) == list(helped)
    assert all(same(alone, helped))


def test_epochs_differ() -> None:
    assert not any(same(epoch_of_batches(0, 0), epoch_of_batches(0, 1)))


def test_ranks_see_what_one_process_sees() -> None:
    found = {}
    for rank in range(2):
        found |= epoch_of_batches(0, 2, rank, 2)
    whole = epoch_of_batches(0, 2)
    assert found.keys() == whole.keys()
    assert all(same(found, whole))


def test_shape_and_type_stay() -> None:
    image, label = dataset()[Pick(5, 0, 0)]
    assert image.shape == (3, SIZE, SIZE)
    assert image.dtype == torch.uint8
    assert label == Faces.labels[16 - 1 - 5]


def test_the_picture_in_the_store_is_not_written_to() -> None:
    image = Faces().image(0)
    image.flags.writeable = False
    paper(**PAPER)(image, seeds(0, 0, 0))
    assert np.array_equal(image, Faces().image(0))


def test_without_any_warp_the_picture_stays() -> None:
    image = Faces().image(0)
    assert np.array_equal(paper(**STILL)(image, seeds(0, 0, 0)), image)


def test_a_flip_mirrors_left_and_right() -> None:
    image = Faces().image(0)
    assert np.array_equal(paper(**{**STILL, "flip": 1.0})(image, seeds(0, 0, 0)), image[:, ::-1])


def test_a_flip_probability_of_a_half_flips_half_of_the_pictures() -> None:
    image, augment = Faces().image(0), paper(**{**STILL, "flip": 0.5})
    flipped = [np.array_equal(augment(image, seeds(0, 0, index)), image[:, ::-1]) for index in range(400)]
    assert 160 < sum(flipped) < 240


@pytest.mark.parametrize("what", ["rotate", "scale", "translate"])
def test_each_number_warps_by_itself(what: str) -> None:
    image, augment = Faces().image(0), paper(**{**STILL, what: PAPER[what]})
    moved = [not np.array_equal(augment(image, seeds(0, 0, index)), image) for index in range(20)]
    assert sum(moved) > 5


def test_the_flip_does_not_tell_the_angle() -> None:
    """A seeded pipeline that gave each transform the same draws would tie the two together."""
    augment = paper(**{**STILL, "flip": 0.5, "rotate": 20.0})
    across = np.tile(np.arange(41, dtype=np.uint8)[None, :, None], (41, 1, 3))  # brighter to the right
    seen = set()
    for index in range(60):
        warped = augment(across, seeds(0, 0, index)).astype(int)[..., 0]
        flipped = warped[20, 10] > warped[20, 30]
        turned_left = warped[10, 20] > warped[30, 20]
        seen.add((bool(flipped), bool(turned_left)))
    assert len(seen) == 4


def test_evaluation_pictures_are_those_of_the_store() -> None:
    image, _ = dataset()[5]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), Faces().image(16 - 1 - 5))


def test_none_is_no_augmentation() -> None:
    assert none() is None


def test_albumentations_is_kept_from_asking_the_network() -> None:
    paper(**PAPER)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"

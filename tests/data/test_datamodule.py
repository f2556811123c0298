"""Batches: the same pictures whoever loads them, as the network wants them, and no thread too many."""

from __future__ import annotations

import os
import pickle
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from stores import make, small
from torch import Tensor, nn
from torch.utils.data import DataLoader, get_worker_info

from fer_lightning.config.compose import compose
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.data.datamodule import Draws, FaceDataModule, as_it_is, workers_beside, workers_by_default
from fer_lightning.data.embedding_datamodule import EmbeddingDataModule
from fer_lightning.data.manifest import Manifest, make_rows
from fer_lightning.data.options import BatchOptions, select
from fer_lightning.data.samplers import GlobalBatches, Pick, shuffle
from fer_lightning.data.store.prepare import prepare
from fer_lightning.data.store.store import Store
from fer_lightning.data.transforms import Image, middle, paper
from fer_lightning.evaluation.embeddings import backbone_embeddings
from fer_lightning.inference.model import Model
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.backbone import OwnBackbone
from fer_lightning.models.forward_pass import Pass
from fer_lightning.models.neck import Identity
from fer_lightning.models.network import Network
from fer_lightning.run.check_config import check
from fer_lightning.run.final_test import see
from fer_lightning.run.set_up import EvaluationSetup

SIZE, SEEN, TRAIN, TEST = 40, 32, 30, 6
CLASSES = ("happy", "fear")
VOTES = ((0.9, 0.1), (0.4, 0.6))
AUGMENT = paper(flip=0.5, rotate=10.0, scale=0.1, translate=0.05)


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    base = tmp_path_factory.mktemp("faces")
    splits = ["train"] * TRAIN + ["test"] * TEST
    names = [f"{number}.png" for number in range(len(splits))]
    for seed, name in enumerate(names):
        cv2.imwrite(str(base / name), np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8))
    labels = [CLASSES[number % 2] for number in range(len(splits))]
    votes = [VOTES[number % 2] for number in range(len(splits))]
    table = make_rows({"id": names, "path": names, "label": labels, "split": splits, "votes": votes})
    found = Manifest("made-up", base, table, CLASSES)
    return prepare(found, base / "stores", size=SIZE, margin=0.0, codec=request.param, processes=1)


def module(store: Store, **changed: Any) -> FaceDataModule:
    how = {"batch_size": 4, "minival": 0.2, "split_seed": 0, "workers": 0, "crop": SEEN, "draw": shuffle}
    how |= {"augment": AUGMENT, "seed": 0, **changed}
    options = BatchOptions(**select(BatchOptions, how))
    return FaceDataModule(store, options, draw=how["draw"], augment=how["augment"], seed=how["seed"])


def epoch(store: Store, workers: int, number: int) -> list[tuple[Tensor, Tensor]]:
    loader = module(store, workers=workers).train_dataloader()
    assert isinstance(loader.batch_sampler, GlobalBatches)
    loader.batch_sampler.set_epoch(number)
    return [(images.clone(), labels.clone()) for images, labels in loader]


def same(some: list[tuple[Tensor, Tensor]], others: list[tuple[Tensor, Tensor]]) -> list[bool]:
    return [
        torch.equal(images, other) and torch.equal(labels, further)
        for (images, labels), (other, further) in zip(some, others, strict=True)
    ]


def test_soft_labels_are_the_votes_of_the_training_pictures_only(store: Store) -> None:
    faces = module(store, soft_labels=True)
    embeddings = {part: [torch.rand(len(faces.labels(part)), 3)] for part in ("train", "minival")}
    for data in (faces, EmbeddingDataModule(faces, embeddings)):
        plain = data.dataset("minival")
        assert [int(plain[row][1]) for row in range(len(plain))] == faces.labels("minival").tolist()  # type: ignore
        for row, number in enumerate(faces.train_rows):
            assert data.dataset("train", training=True)[row][1].tolist() == pytest.approx(VOTES[number % 2])
        for _, labels in data.train_dataloader():
            assert labels.shape == (4, 2)
    assert faces.images.tolist() == list(module(store).class_stats.counts) == [12, 12]
    assert faces.class_stats.counts == (16, 8)
    assert [labels.ndim for _, labels in module(store).train_dataloader()] == [1] * 6


def test_soft_labels_where_there_are_no_votes(tmp_path: Path) -> None:
    store = make(small(tmp_path / "set"), tmp_path / "base")
    assert store.split("train").votes is None
    with pytest.raises(ValueError, match="soft_labels=true, but this data set has no annotators' votes"):
        module(store, soft_labels=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(store: Store, workers: int) -> None:
    assert all(same(epoch(store, 0, 1), epoch(store, workers, 1)))


def test_epochs_differ(store: Store) -> None:
    assert not any(same(epoch(store, 0, 0), epoch(store, 0, 1)))


def test_ranks_see_what_one_process_sees(store: Store) -> None:
    data = module(store)
    faces, labels = data.dataset("train", training=True), data.labels("train")

    def seen(rank: int, ranks: int) -> list[Tensor]:
        batches = GlobalBatches(labels, shuffle, 4, 0, rank, ranks)
        return [images for images, _ in DataLoader(faces, batch_sampler=batches, collate_fn=as_it_is)]

    for whole, first, second in zip(seen(0, 1), seen(0, 2), seen(1, 2), strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


def test_a_draw_depends_on_seed_epoch_index_and_showing(store: Store) -> None:
    faces = module(store).dataset("train", training=True)
    picks = [Pick(7, 3, 0), Pick(7, 4, 0), Pick(7, 3, 1), Pick(7, 0, 3)]
    views = [faces[pick][0] for pick in picks]
    views.append(module(store, seed=1).dataset("train", training=True)[picks[0]][0])
    assert all(torch.equal(a, b) == (i == j) for i, a in enumerate(views) for j, b in enumerate(views))
    assert torch.equal(faces[picks[0]][0], views[0])


def test_nothing_is_left_over_from_the_picture_before() -> None:
    draws, again = Draws(), pickle.loads(pickle.dumps(Draws()))
    expected = again.of(3, Pick(7, 1, 0)).random(5)
    for left in (lambda rng: rng.random(3), lambda rng: rng.integers(9, dtype=np.int32), lambda rng: rng.normal()):
        left(draws.of(3, Pick(8, 1, 0)))
        assert np.array_equal(draws.of(3, Pick(7, 1, 0)).random(5), expected)
        halves = again.of(3, Pick(7, 1, 0)).integers(2**32, size=3, dtype=np.uint32)
        left(draws.of(3, Pick(8, 1, 0)))
        assert np.array_equal(draws.of(3, Pick(7, 1, 0)).integers(2**32, size=3, dtype=np.uint32), halves)


def test_draws_of_neighbours_are_not_alike() -> None:
    draws = Draws()
    grid = [(seed, Pick(*pick)) for seed in range(2) for pick in product(range(50), range(3), range(2))]
    found = np.array([draws.of(seed, pick).random(5) for seed, pick in grid])
    assert len(np.unique(found)) == found.size
    assert np.abs(np.corrcoef(found.T) - np.eye(5)).max() < 0.15
    assert np.abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 0.15
    assert np.abs(found.mean(0) - 0.5).max() < 0.06


def test_a_batch_is_one_piece_of_channels_last_memory(store: Store) -> None:
    for images, labels in (next(iter(module(store, workers=n).train_dataloader())) for n in (0, 1)):
        assert (images.shape, images.dtype) == ((4, 3, SEEN, SEEN), torch.uint8)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert (labels.shape, labels.dtype) == ((4,), torch.int64)


def test_one_picture_is_that_of_a_batch(store: Store) -> None:
    faces = module(store).dataset("train", training=True)
    items = [3, Pick(3, 0, 0), Pick(8, 2, 1)]
    images, labels = faces.__getitems__(items)
    for number, item in enumerate(items):
        image, label = faces[item]
        assert torch.equal(image, images[number])
        assert label == labels[number] == module(store).labels("train")[3 if number < 2 else 8]


@pytest.mark.parametrize("seen", [SIZE, SEEN, 31])
def test_the_test_sees_the_middle_as_it_is_kept(store: Store, seen: int) -> None:
    loader = module(store, crop=seen).in_order("test")
    images = torch.cat([images for images, _ in loader]).permute(0, 2, 3, 1).numpy()
    faces = store.split("test")
    assert len(images) == TEST
    for number, image in enumerate(images):
        assert np.array_equal(image, middle(faces.image(number), seen))


def test_the_minival_is_seen_by_each_rank_in_part(store: Store) -> None:
    whole = torch.cat([images for images, _ in module(store).val_dataloader()[0]])
    parts = []
    for rank in range(2):
        data = module(store)
        data.trainer = fake_trainer("cpu", ranks=2, rank=rank)
        parts.append(torch.cat([images for images, _ in data.val_dataloader()[0]]))
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


def test_a_watched_test_set_is_a_second_loader_and_each_rank_sees_its_part(store: Store) -> None:
    parts = []
    for rank in range(2):
        data = module(store)
        data.watch_test, data.trainer = True, fake_trainer("cpu", ranks=2, rank=rank)
        minival, test = data.val_dataloader()
        assert sum(len(labels) for _, labels in minival) == len(data.minival_rows[rank::2])
        parts.append(torch.cat([labels for _, labels in test]))
    assert torch.equal(torch.stack(parts, 1).flatten(), torch.from_numpy(store.split("test").labels))


def test_no_crop_is_the_whole_picture(store: Store) -> None:
    assert module(store, crop=None).side == SIZE


@pytest.mark.parametrize("crop", [SIZE + 1, 0])
def test_a_crop_that_does_not_fit_is_refused(store: Store, crop: int) -> None:
    with pytest.raises(ValueError, match="crop"):
        module(store, crop=crop)
    reason = "must be greater than or equal to 1" if crop < 1 else "must be 1 to data.size=40"
    with pytest.raises(UserError, match=f"data.crop={crop}: {reason}"):
        check(compose(["data.size=40", f"data.crop={crop}"]))


@pytest.mark.parametrize(
    ("cores", "ranks", "workers"),
    [
        (1, 1, 0),
        (2, 1, 0),
        (2, 2, 0),
        (3, 1, 2),
        (4, 1, 3),
        (4, 4, 0),
        (8, 4, 1),
        (16, 1, 8),
        (64, 4, 8),
        (32, 8, 3),
    ],
)
def test_workers_follow_from_cores_and_ranks(cores: int, ranks: int, workers: int) -> None:
    assert workers_by_default(cores, ranks) == workers
    assert ranks * (workers + 1 + workers_beside(workers, cores, ranks)) <= max(cores, ranks)


def fake_trainer(device: str, ranks: int, rank: int = 0) -> Any:
    strategy = SimpleNamespace(root_device=torch.device(device))
    fit = {"max_epochs": 1, "accumulate_grad_batches": 1}
    return SimpleNamespace(strategy=strategy, num_devices=ranks, world_size=ranks, global_rank=rank, **fit)


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True)])
def test_only_pictures_that_go_to_a_gpu_are_pinned(
    store: Store, device: str, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    data = module(store, workers=None)
    data.trainer = fake_trainer(device, ranks=2)
    data.watch_test = True
    train, minival, test = loaders = data.train_dataloader(), *data.val_dataloader()
    assert all(loader.pin_memory == pinned for loader in loaders)
    assert (train.num_workers, train.persistent_workers) == (5, True)
    assert (minival.num_workers, test.num_workers) == (0, 0), "no core is left beside the training's processes"
    assert not data.in_order("test").pin_memory
    assert data.in_order("test", pinned=True).pin_memory
    assert data.in_order("test").num_workers == 8  # the other ranks do nothing then
    assert module(store, workers=0).train_dataloader().persistent_workers is False


@pytest.mark.parametrize(("cores", "evaluation"), [(24, 3), (64, 8)])
def test_all_loaders_of_all_ranks_stay_within_the_cores(
    store: Store, cores: int, evaluation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    data = module(store, workers=None)
    data.watch_test = True
    data.trainer = fake_trainer("cpu", ranks=2)
    train, *evaluated = data.train_dataloader(), *data.val_dataloader()
    assert (train.num_workers, train.persistent_workers) == (8, True)
    for loader in evaluated:  # they take turns, since their processes end with each pass
        assert (loader.num_workers, loader.persistent_workers) == (evaluation, False)


class Threads:
    """In place of an augmentation: writes the numbers of threads into the picture, and whether a worker has it."""

    def __call__(self, image: Image, generator: np.random.Generator, out: Image) -> None:
        out[...] = 0
        out[0, 0] = cv2.getNumThreads(), torch.get_num_threads(), get_worker_info() is not None


@pytest.fixture
def opencv_pool() -> Any:
    """OpenCV's threads, running."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((500, 500, 3), np.uint8), (0, 0), 3)
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("store", ["raw"], indirect=True)
@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.faults)])
@pytest.mark.usefixtures("opencv_pool")
def test_every_loading_process_has_one_thread(store: Store, context: str) -> None:
    """Forked while OpenCV's threads run, it would wait for them for ever, or crash as it ends them."""
    loader = module(store, workers=1, augment=Threads()).train_dataloader()
    loader.multiprocessing_context, loader.timeout = context, 60
    assert cv2.getNumThreads() == 1
    opencv, pytorch, in_a_worker = next(iter(loader))[0][0, :, 0, 0].tolist()
    assert (opencv, pytorch) == (1, 1)
    assert in_a_worker


class Sums(nn.Module):
    """A backbone for which left and right differ."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(SEEN, dtype=torch.float32) / SEEN)

    def forward(self, images: Tensor) -> Tensor:
        return (images / 255 * self.weight).mean((2, 3))


@pytest.fixture
def how() -> Pass:
    return Pass("cpu", "32-true", channels_last=True)


@pytest.fixture
def backbone() -> OwnBackbone:
    return OwnBackbone(Sums(), {"class": "Sums", "arguments": {}, "source": "", "weights_hash": None})


def test_embeddings_are_kept_by_what_is_seen(
    store: Store, how: Pass, backbone: OwnBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    data = module(store)
    for _ in range(2):
        plain = backbone_embeddings(backbone, data, "test", how, weights="sums")
        mirrored = backbone_embeddings(backbone, data, "test", how, weights="sums", mirrored=True)
    assert len([*(tmp_path / "embeddings").glob("*/*.npy")]) == 2
    (images,) = (images for images, _ in DataLoader(data.dataset("test"), batch_size=TEST, collate_fn=as_it_is))
    with torch.no_grad():
        assert torch.allclose(plain, backbone(images), atol=1e-6)
        assert torch.allclose(mirrored, backbone(images.flip(3)), atol=1e-6)
    assert not torch.allclose(plain, mirrored, atol=1e-4)
    with pytest.raises(RuntimeError, match="size of tensor"):  # nothing was kept for another crop: it is computed
        backbone_embeddings(backbone, module(store, crop=SEEN - 2), "test", how, weights="sums")


@pytest.mark.parametrize("flip_averaging", [False, True])
def test_a_loaded_model_gives_the_tested_numbers(
    store: Store, how: Pass, backbone: OwnBackbone, flip_averaging: bool
) -> None:
    data = module(store, flip_averaging=flip_averaging)
    torch.manual_seed(0)
    head = SoftmaxHead(3, ClassStats(CLASSES, (2, 1)), label_smoothing=0.0)
    network = Network(backbone, Identity(3), head)
    nn.init.normal_(head.classifier.weight, std=20.0)
    protocol = {"flip_averaging": flip_averaging, "size": SIZE, "margin": 0.0, "crop": SEEN}
    tested = see(network, EvaluationSetup({}, data, protocol, how, None), "test").logits.softmax(1).float()
    head_of_card = {"class": "fer_lightning.losses.softmax.SoftmaxHead", "arguments": {}}
    stats = {"names": CLASSES, "counts": (2, 1)}
    card = {"backbone": backbone.spec, "neck": head_of_card, "head": head_of_card, "class_stats": stats}
    model = Model(network, {**card, "protocol": protocol})
    images = torch.cat([images for images, _ in data.in_order("test")])
    with torch.no_grad():
        assert torch.allclose(model(images), tested, atol=1e-5)
        assert torch.allclose(model(images.flip(3)), model(images), atol=1e-6) == flip_averaging

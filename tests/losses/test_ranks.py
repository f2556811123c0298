"""Two ranks of 16 pictures are one process of 32: the real module, Trainer and batches, float64, three SGD steps.

One pair of gloo processes runs all cases and leaves what it found in files; this process runs them alone. The pair
are forks of the process that has imported everything for runs, see ``fer_lightning.run.launch``.
"""

import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, multiprocessing, nn

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments, target
from fer_lightning.config.shipped import groups
from fer_lightning.core.contracts import ClassStats
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.options import BatchOptions
from fer_lightning.data.samplers import shuffle
from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.models.neck import LinearPReLU
from fer_lightning.models.network import Network
from fer_lightning.training import class_weights
from fer_lightning.training.module import FERModule
from fer_lightning.training.optimizers import Recipe, sgd

RANKS, STEPS, BATCH, SIZE, FEATURES = 2, 3, 32, 8, 5
LR, LAMBDA, RATE = 0.1, 0.5, 0.4
CLASSES = ("a", "b", "c")
COUNTS = (77, 26, 16)
UPDATES = ("running", "exact", "gradient")
HEADS = {name: compose([f"loss={name}"])["loss"] for name in groups()["loss"]}
WITH_CENTERS = [name for name in HEADS if issubclass(target("loss", HEADS[name]), CenterTermHead)]
METHODS = [name for name in HEADS if name not in WITH_CENTERS]
METHODS += [f"{name}-{update}" for name in WITH_CENTERS for update in UPDATES]
CASES = [f"{method}/min_over_count/1" for method in METHODS]
CASES += [f"{method}/none/1" for method in METHODS if method.partition("-")[0] in ("softmax", "cluster")]
CASES += [f"cluster-{update}/min_over_count/2" for update in UPDATES]  # two micro-batches a step


class Faces:
    """A split that holds noise, a little brighter by class."""

    size = SIZE

    def __init__(self) -> None:
        self.labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
        self.groups = np.arange(len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, row: int) -> np.ndarray:
        noise = np.random.default_rng(row).integers(0, 100, (SIZE, SIZE, 3))
        return (noise + 50 * self.labels[row]).astype(np.uint8)


class FakeStore:
    classes = CLASSES

    def split(self, _: str) -> Faces:
        return Faces()


class SmallBackbone(nn.Module):
    """A convolution that is trained and a BatchNorm that is frozen."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, self.num_features, 3)
        self.norm = nn.BatchNorm2d(self.num_features).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.to(self.conv.weight.dtype) / 255
        return self.norm(self.conv(pixels)).relu().mean((2, 3))


class FirstStep(Callback):
    """Keeps the gradients of the first step, as the optimizer meets them, and how far it moved the centers."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}
        self.start = self.move = torch.zeros(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module.network.head, CenterTermHead):
            self.start = pl_module.network.head.centers.detach().clone()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 1 and len(self.start) and not len(self.move):
            self.move = pl_module.network.head.centers.detach() - self.start

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, _: Any) -> None:
        if not self.found:
            named = pl_module.named_parameters()
            self.found = {name: value.grad.clone() for name, value in named if value.grad is not None}


def build(case: str) -> tuple[FERModule, FaceDataModule]:
    """The module of a case before training, and its batches; the same in every process."""
    method, scheme, _ = case.split("/")
    torch.manual_seed(3)
    data = FaceDataModule(
        FakeStore(),  # type: ignore[arg-type]
        BatchOptions(batch_size=BATCH, minival=0.15, split_seed=0, workers=0),
        draw=shuffle,
        augment=None,
        seed=4,
    )
    stats: ClassStats = data.class_stats
    kind, _, update = method.partition("-")
    numbers = arguments(HEADS[kind])
    if update:
        numbers |= {"weight": LAMBDA, "center_update": update, "center_rate": RATE}
    head = target("loss", HEADS[kind])(FEATURES, stats, **numbers)
    if update:
        head.init_centers(torch.randn(len(CLASSES), FEATURES))
    backbone = SmallBackbone()
    network = Network(backbone, LinearPReLU(backbone.num_features, FEATURES), head)
    weights = class_weights.normalise(getattr(class_weights, scheme)(stats.counts), stats.counts, "expected_one")
    return FERModule(
        network, weights, Recipe(partial(sgd, lr=LR, momentum=0.0, weight_decay=0.0, fused=False))
    ), data


def train(case: str, devices: int) -> dict[str, dict[str, Tensor]]:
    """Three steps of a case. Returns the weights after it, the first step's gradients, and the logged numbers."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    module, data = build(case)
    first = FirstStep()
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="64-true",
        max_epochs=1,
        accumulate_grad_batches=int(case.split("/")[2]),
        callbacks=[first],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == STEPS
    logged = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    return {"weights": module.state_dict(), "gradients": first.found, "logged": logged, "move": {"": first.move}}


class Statistics(Callback):
    """Keeps BatchNorm's running mean as the first picture of the minival meets it."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mean = pl_module.network.backbone.norm.running_mean.clone()


def validated_statistics() -> Tensor:
    """An epoch of a rank whose BatchNorm is trained, on its own pictures."""
    module, data = build("softmax/none/1")
    module.network.backbone.norm.requires_grad_(True)
    module.train()
    callback = Statistics()
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy="ddp",
        max_epochs=1,
        callbacks=[callback],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **off,
    )
    trainer.fit(module, datamodule=data)
    return callback.mean


def rank_process(rank: int, port: int, folder: str) -> None:
    """One rank: all cases after one another, as a launcher would start it."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.set_num_threads(1)
    torch.save({case: train(case, RANKS) for case in CASES}, Path(folder) / f"{rank}.pt")
    torch.save(validated_statistics(), Path(folder) / f"{rank}.norm.pt")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


Found = dict[str, dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def everything(folder: Path) -> tuple[list[Found], Found]:
    """What each rank of the pair found, by case, and what one process found meanwhile."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["fer_lightning.run.__main__"])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        pair = multiprocessing.start_processes(
            rank_process, (free_port(), str(folder)), nprocs=RANKS, join=False, start_method="forkserver"
        )
    one = {case: train(case, 1) for case in CASES}
    while not pair.join():
        pass
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)], one


@pytest.fixture(scope="module")
def ranks(everything: tuple[list[Found], Found]) -> list[Found]:
    return everything[0]


@pytest.fixture(scope="module")
def alone(everything: tuple[list[Found], Found]) -> Found:
    return everything[1]


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        difference = (found[name] - value).abs().max()
        assert difference < 1e-9, name


@pytest.mark.parametrize("case", CASES)
def test_weights_and_centers_after_three_steps_are_those_of_one_process(
    ranks: list[Found], alone: Found, case: str
) -> None:
    assert alone[case]["weights"]["network.head.classifier.weight"].dtype == torch.float64
    for rank in ranks:
        equal(rank[case]["weights"], alone[case]["weights"])


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("/2")])
def test_a_step_in_two_micro_batches_is_the_step_in_one(ranks: list[Found], alone: Found, case: str) -> None:
    whole = alone[f"{case.rpartition('/')[0]}/1"]
    for found in (alone[case], ranks[0][case]):
        equal(found["weights"], whole["weights"])
        assert float(found["logged"]["train/loss"]) == pytest.approx(
            float(whole["logged"]["train/loss"]), rel=1e-6
        )


@pytest.mark.parametrize("case", CASES)
def test_the_first_gradients_are_those_of_one_process(ranks: list[Found], alone: Found, case: str) -> None:
    for rank in ranks:
        equal(rank[case]["gradients"], alone[case]["gradients"])


@pytest.mark.parametrize("case", CASES)
def test_loss_and_minival_metrics_are_those_of_one_process(ranks: list[Found], alone: Found, case: str) -> None:
    expected = alone[case]["logged"]
    assert {"train/loss", "minival/loss", "minival/macro_recall", "minival/accuracy"} <= expected.keys()
    for rank in ranks:
        found = rank[case]["logged"]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("case", CASES)
def test_weights_and_centers_did_move_and_the_frozen_norm_did_not(ranks: list[Found], case: str) -> None:
    before, after = build(case)[0].double().state_dict(), ranks[0][case]["weights"]
    for name, value in before.items():
        stays = "norm" in name or name == "class_weights"
        assert torch.equal(value, after[name].to(value.dtype)) == stays, name


def kind_of(case: str) -> str:
    return case.partition("/")[0].partition("-")[0]


def first_batch(case: str) -> tuple[FERModule, Tensor, Tensor]:
    """The module before training, and embeddings and labels of the first 32 pictures of the order."""
    module, data = build(case)
    module.double().eval()
    order = shuffle(data.labels("train"), np.random.default_rng([4, 0]), 0.0)[:BATCH]
    images, labels = zip(*[data.dataset("train")[int(index)] for index in order], strict=True)
    with torch.no_grad():
        return module, torch.cat([module.network.embed(image[None]) for image in images]), torch.stack(labels)


@pytest.mark.parametrize("case", [case for case in CASES if kind_of(case) in ("softmax", *WITH_CENTERS)])
def test_the_first_gradient_is_that_of_the_weighted_mean_over_the_global_batch(
    ranks: list[Found], case: str
) -> None:
    """The classifier's, by hand: mean_i w[y_i] (p_i - e_{y_i}) x_i^T."""
    module, embeddings, labels = first_batch(case)
    expected = torch.zeros(len(CLASSES), FEATURES, dtype=torch.float64)
    with torch.no_grad():
        for embedding, label in zip(embeddings, labels, strict=True):
            logits = module.network.head.classifier(embedding)
            slope = logits.exp() / logits.exp().sum()
            slope[label] -= 1
            expected += module.class_weights[label] * torch.outer(slope, embedding) / BATCH
    found = ranks[1][case]["gradients"]["network.head.classifier.weight"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "case", [case for case in CASES if "running" in case and kind_of(case) not in ("island", "sparse_center")]
)
def test_running_centers_move_towards_the_global_batch(ranks: list[Found], case: str) -> None:
    module, embeddings, labels = first_batch(case)
    before = module.network.head.centers
    move = torch.zeros_like(before)
    for k in range(len(CLASSES)):
        own = [embedding for embedding, label in zip(embeddings, labels, strict=True) if label == k]
        move[k] = RATE * sum(embedding - before[k] for embedding in own) / (1 + len(own))
    torch.testing.assert_close(ranks[1][case]["move"][""], move, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if "-gradient" in case])
def test_gradient_centers_are_moved_once_by_their_own_rate_and_exact_ones_without_lambda(
    ranks: list[Found], case: str
) -> None:
    """That gradient was measured by autograd and DistributedDataParallel, the exact one by ``observe``."""
    gradient = ranks[1][case]["gradients"]["network.head.centers"]
    exact = ranks[1][case.replace("gradient", "exact")]
    assert "network.head.centers" not in exact["gradients"]
    torch.testing.assert_close(ranks[1][case]["move"][""], -RATE * gradient, rtol=0, atol=1e-9)
    torch.testing.assert_close(exact["move"][""], -RATE * gradient / LAMBDA, rtol=0, atol=1e-9)


def test_all_ranks_validate_the_statistics_of_the_first(folder: Path, ranks: list[Found]) -> None:
    first, second = (torch.load(folder / f"{rank}.norm.pt", weights_only=True) for rank in range(RANKS))
    assert first.any()
    assert torch.equal(first, second)


def test_heads_with_centers_are_among_the_cases() -> None:
    heads = [build(case)[0].network.head for case in CASES]
    updates = {(type(head), head.center_update) for head in heads if isinstance(head, CenterTermHead)}
    assert len(updates) == 3 * len(WITH_CENTERS) >= 18

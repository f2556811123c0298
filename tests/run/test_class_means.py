"""The class means that centers start from: each rank embeds its share, and they are those of one process."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from runs import SMALL
from torch import Tensor, multiprocessing

from fer_lightning.config.compose import compose
from fer_lightning.losses.center_statistics import class_means
from fer_lightning.models.network import Network
from fer_lightning.run.set_up import set_up
from fer_lightning.run.train_stages import Training
from fer_lightning.training import distributed

RANKS = 2
WORDS = [*SMALL, "data.minival=0.25", "stage=fine_tuning", "loss=cluster"]


def means(*, cached: bool) -> tuple[Tensor, int]:
    """The class means of this rank, and the number of pictures that went through the neck for them."""
    setup = set_up(compose(WORDS))
    if not cached:
        setup.shared_weights = None  # as for a backbone that a stage before has trained
    network = Network(setup.backbone, setup.neck, setup.heads["configured"])
    seen: list[int] = []
    setup.neck.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    training = Training(setup, Path())
    return training._class_means(network), sum(seen)


def rank_process(rank: int, folder: str) -> None:
    """One rank, which leaves what it found in a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), distributed.RENDEZVOUS: f"file://{folder}/meeting"}
    torch.set_num_threads(1)
    with distributed.process_group("cpu", 120):
        torch.save([means(cached=cached) for cached in (False, True)], Path(folder) / f"{rank}.pt")


def test_two_ranks_with_uneven_shares_find_the_means_of_one_process(tmp_path: Path) -> None:
    alone, pictures = means(cached=False)
    assert pictures % RANKS, "the shares were to be uneven"
    multiprocessing.get_context("forkserver").set_forkserver_preload(["fer_lightning.run.__main__"])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        multiprocessing.start_processes(rank_process, (str(tmp_path),), nprocs=RANKS, start_method="forkserver")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    for kind in (0, 1):
        (first, some), (second, others) = (of_rank[kind] for of_rank in found)
        assert sorted([some, others]) == [pictures // 2, pictures // 2 + 1]
        assert torch.equal(first, second)
        torch.testing.assert_close(first, alone, rtol=1e-6, atol=1e-6)


def test_a_class_of_one_rank_alone_has_the_mean_of_that_rank() -> None:
    embeddings, labels = torch.randn(7, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 2, 0, 2, 2])
    shares: list[Tensor] = []

    def keep(sums: Tensor) -> Tensor:
        shares.append(sums)
        return torch.ones_like(sums)

    for rows in (slice(0, 3), slice(3, None)):
        class_means(embeddings[rows], labels[rows], 3, keep)
    together = class_means(embeddings[:3], labels[:3], 3, lambda _: sum(shares, torch.zeros(3, 4)))
    expected = torch.stack([embeddings[labels == k].mean(0) for k in range(3)])
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(class_means(embeddings, labels, 3), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="class 2 has no embedding"):
        class_means(embeddings[:3], labels[:3], 3)

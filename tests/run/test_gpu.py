"""What needs a CUDA device: skipped without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.run.__main__ import main as run_main

pytestmark = pytest.mark.gpu

SMALL = ["data.rows=803", "backbone.people=20", "backbone.pictures=10", "backbone.epochs=1", "stage.epochs=1"]


@pytest.mark.parametrize("head", [SoftmaxHead, CenterHead, ClusterHead])
def test_a_head_on_the_gpu_equals_the_cpu(head: type[SoftmaxHead]) -> None:
    torch.manual_seed(0)
    here = head(16, ClassStats(EMOTIONS, tuple(range(1, 9)))).double()
    there = head(16, ClassStats(EMOTIONS, tuple(range(1, 9)))).double()
    there.load_state_dict(here.state_dict())
    there.cuda()
    features, labels = torch.randn(32, 16, dtype=torch.float64), torch.randint(0, 8, (32,))
    expected = here(features, labels).per_sample
    found = there(features.cuda(), labels.cuda()).per_sample
    assert torch.allclose(found.cpu(), expected, atol=1e-9)


FASTER = ["trainer.compile=true", "trainer.accumulate=2", "optimizer.ema_decay=0.9", "schedule=step"]


@pytest.mark.parametrize(
    "more", [[], FASTER, ["stage.feature_extraction.views=2"]], ids=["plain", "faster", "views"]
)
def test_a_run_in_bfloat16_and_channels_last(tmp_path: Path, more: list[str]) -> None:
    words = [*SMALL, "trainer=gpu", "loss=cluster", "class_weights=min_over_count", *more]
    assert run_main(["--directory", str(tmp_path / "run"), *words]) == 0
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    assert sum(map(sum, told["confusion"])) == 2400
    assert told["provenance"]["machine"]["device"] != "cpu"


def test_a_loss_that_is_not_finite_ends_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "trainer=gpu", "stage=fine_tuning", "optimizer.lr=1e6"]
    assert run_main(["--directory", str(tmp_path / "run"), *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "in epoch 1 of 1: the loss is nan" in line
    assert "not finite for 64 of 64 samples: " in line
    assert not list(tmp_path.rglob("*.ckpt"))


def test_nccl_with_every_gpu_there_is(tmp_path: Path) -> None:
    gpus = torch.cuda.device_count()
    words = [*SMALL, "trainer=ddp", f"trainer.devices={gpus}", f"data.batch_size={16 * gpus}"]
    assert run_main(["--directory", str(tmp_path / "run"), *words]) == 0
    assert sum(map(sum, json.loads((tmp_path / "run" / "result.json").read_text())["confusion"])) == 2400

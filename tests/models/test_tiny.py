"""The pre-trained tiny backbone depends on its recipe alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fer_lightning.config.compose import Composer
from fer_lightning.models.forward_pass import state_hash
from fer_lightning.run import build

COMPOSE = Composer()
RECIPE = [f"backbone.{word}" for word in ("people=4", "pictures=10", "epochs=1", "size=32", "batch_size=8")]


def completed(cache: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> str:
    monkeypatch.setenv("FER_CACHE", str(cache))
    backbone = build.backbone(COMPOSE([*RECIPE, *overrides]))
    torch.randn(7)
    backbone.complete()
    assert backbone.weights_hash == backbone.spec["weights_hash"] is not None
    return state_hash(backbone)


def test_the_runs_seed_does_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = completed(tmp_path / "a", monkeypatch, "seed=0")
    assert completed(tmp_path / "b", monkeypatch, "seed=5") == first
    assert completed(tmp_path / "c", monkeypatch, "backbone.seed=1") != first


def test_it_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = completed(tmp_path, monkeypatch)
    monkeypatch.setattr("fer_lightning.models.tiny.identities", None)
    assert completed(tmp_path, monkeypatch) == first


def test_random_weights_follow_the_runs_seed() -> None:
    hashes = [
        state_hash(build.backbone(COMPOSE([*RECIPE, f"seed={seed}"]), pretrained=False)) for seed in (0, 0, 1)
    ]
    assert hashes[0] == hashes[1] != hashes[2]

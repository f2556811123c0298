"""Every logger writes into the cell's folder, and wandb is offline unless told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning import run as run_module

SMALL = ["data.rows=803", "backbone.people=20", "backbone.pictures=10", "backbone.epochs=1", "stage.epochs=1"]


@pytest.mark.parametrize(
    ("logger", "files", "fits"),
    [
        ("csv", "logs/*/metrics.csv", 2),
        ("tensorboard", "logs/*/events.out.tfevents.*", 2),
        ("wandb", "wandb/offline-run-*/*.wandb", 2),
        ("none", "logs", 0),
    ],
)
def test_a_run_a_stage(
    logger: str, files: str, fits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path.parent / "fer_cache_of_loggers"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    # a seed of its own: a shared first stage would be logged by the first cell only
    seed = f"seed={['csv', 'tensorboard', 'wandb', 'none'].index(logger)}"
    assert run_module.main(["--directory", str(tmp_path / "cell"), *SMALL, seed, f"logger={logger}"]) == 0
    assert len(list((tmp_path / "cell").glob(files))) == fits

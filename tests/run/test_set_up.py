"""What a run needs is built once, and its parts do not depend on one another."""

from __future__ import annotations

from collections import Counter
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SMALL
from torch import nn

from fer_lightning.config import instantiate
from fer_lightning.config.compose import Composer
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.forward_pass import state_hash
from fer_lightning.run import set_up as set_up_module
from fer_lightning.run.set_up import set_up
from fer_lightning.run.train_stages import Training

COMPOSE = Composer()
WORDS = [*SMALL, "stage.epochs=1", "optimizer.lr=0.01"]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is built from the config, every head, and every hash of weights."""
    counts: Counter[str] = Counter()
    target, init = instantiate.target, SoftmaxHead.__init__

    def counted(group: str, node: Any) -> Any:
        function = target(group, node)

        @wraps(function)
        def build(*args: Any, **kwargs: Any) -> Any:
            counts[group] += 1
            return function(*args, **kwargs)

        return build

    def head(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        counts[type(self).__name__] += 1
        init(self, *args, **kwargs)

    def hashed(module: nn.Module) -> str:
        counts["hash"] += 1
        return state_hash(module)

    monkeypatch.setattr(instantiate, "target", counted)
    monkeypatch.setattr(SoftmaxHead, "__init__", head)
    monkeypatch.setattr(set_up_module, "state_hash", hashed)
    return counts


def test_everything_is_built_once_in_a_run_of_two_stages(
    built: Counter[str], tmp_path: Path, no_stages: None
) -> None:
    config = COMPOSE([*WORDS, "stage=two_stage", "loss=cluster", "class_weights=min_over_count", "seed=5"])
    set_up(config)  # prepares the faces: before that, heads and weights are tried on made-up counts
    built.clear()
    Training(set_up(config), tmp_path).run()
    assert built == {
        **dict.fromkeys(
            ("data", "transform", "mixing", "backbone", "neck", "loss", "class_weights", "trainer"), 1
        ),
        **{"stage.feature_extraction": 1, "stage.fine_tuning": 1},
        **{"SoftmaxHead": 1, "ClusterHead": 1, "hash": 1},
    }


def test_a_head_is_drawn_as_if_its_stage_were_the_only_one() -> None:
    words = [*WORDS, "loss=cluster"]
    both = set_up(COMPOSE([*words, "stage=two_stage"]))
    alone = set_up(COMPOSE([*words, "stage=fine_tuning"]))
    for name, value in alone.heads["configured"].state_dict().items():
        assert torch.equal(both.heads["configured"].state_dict()[name], value), name
    softmax = both.heads["softmax"].state_dict()
    assert all(torch.equal(softmax[name], alone.heads["configured"].state_dict()[name]) for name in softmax)


@pytest.mark.parametrize(
    ("stage", "shared"),
    [("feature_extraction", True), ("fine_tuning", False), ("two_stage", False), ("from_scratch", False)],
)
def test_embeddings_are_shared_only_while_the_backbone_is_what_others_start_from(
    tmp_path: Path, stage: str, shared: bool
) -> None:
    setup = set_up(COMPOSE([*WORDS, f"stage={stage}"]))
    assert setup.shared_weights == state_hash(setup.backbone)
    network = Training(setup, tmp_path).run()
    assert setup.shared_weights == (state_hash(network.backbone) if shared else None)


def test_a_loss_that_makes_no_sense_is_refused_before_the_faces_are_prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    with pytest.raises(Exception, match="center_rate must be in"):
        set_up(COMPOSE([*WORDS, "backbone.pictures=4", "loss=center", "loss.center_rate=2.0"]))
    assert not [*tmp_path.glob("stores/*")]

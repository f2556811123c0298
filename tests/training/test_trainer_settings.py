"""Settings that make training faster or smaller train the same: torch.compile, micro-batches, clipping."""

from pathlib import Path

import pytest
import torch
from runs import SMALL
from torch import Tensor, nn

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.inference.load_model import load_model
from fer_lightning.run.check_config import check
from fer_lightning.run.set_up import set_up
from fer_lightning.run.train_stages import Training


def trained(directory: Path, *words: str) -> dict[str, Tensor]:
    """The weights that were kept."""
    config = compose([*SMALL, "optimizer=sgd", "stage.epochs=1", *words])
    check(config)
    training = Training(set_up(config), directory)
    training.run()
    return training.state


def test_a_compiled_neck_trains_the_same_under_the_same_names(tmp_path: Path) -> None:
    compiled = trained(tmp_path / "compiled", "stage=feature_extraction", "trainer.compile=true")
    plain = trained(tmp_path / "plain", "stage=feature_extraction")
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)
    assert load_model(tmp_path / "compiled" / "best.ckpt").classes


def test_what_is_compiled_is_frozen_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def note(self: nn.Module) -> None:
        norms = [module.training for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        seen.append(
            (type(self).__name__, sum(parameter.requires_grad for parameter in self.parameters()), sum(norms))
        )

    monkeypatch.setattr(nn.Module, "compile", note)
    trained(tmp_path, "stage=fine_tuning", "trainer.compile=true")
    # of layer4: three convolutions, and three norms with two parameters each
    assert seen == [("TinyBackbone", 9, 3), ("LinearPReLU", 3, 0)]


def test_a_step_in_micro_batches_trains_the_same(tmp_path: Path) -> None:
    """With BatchNorm frozen: its statistics are those of a micro-batch."""
    words = [
        "stage=fine_tuning",
        "stage.fine_tuning.batch_norm=never",
        "trainer.precision=64-true",
        "loss=cluster",
    ]
    whole = trained(tmp_path / "whole", *words)
    parts = trained(tmp_path / "parts", *words, "trainer.accumulate=4")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=1e-9)


def test_clipping_is_for_the_gradient_and_not_for_the_centers(tmp_path: Path) -> None:
    words = ["stage=feature_extraction", "loss=cluster", "loss.weight=0", "loss.center_update=running"]
    start = trained(tmp_path / "free", *words)
    clipped = trained(tmp_path / "clipped", *words, "trainer.gradient_clip=1e-9")
    name = "network.head.classifier.weight"
    assert not torch.allclose(start[name], clipped[name])
    untouched = trained(tmp_path / "still", *words, "optimizer.lr=1e-12", "optimizer.weight_decay=0.0")
    torch.testing.assert_close(
        clipped["network.head.centers"], untouched["network.head.centers"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("words", [["trainer.accumulate=3"], ["trainer=ddp_cpu", "trainer.devices=5"]])
def test_a_batch_that_cannot_be_split_is_refused_before_anything_is_done(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(UserError, match=r"data.batch_size=16 cannot be split evenly over"):
        trained(tmp_path, "stage=fine_tuning", *words)

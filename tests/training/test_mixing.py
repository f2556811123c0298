"""Mixing of training pictures: what the backbone and the head are given, and which runs are refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from runs import SMALL, fer, result
from torch import Tensor, nn

from fer_lightning.config.compose import compose
from fer_lightning.config.identity import identity
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.neck import Identity
from fer_lightning.models.network import Network
from fer_lightning.run import build
from fer_lightning.run.set_up import set_up
from fer_lightning.training.mixing import Mixing, cutmix, mixup
from fer_lightning.training.module import FERModule
from fer_lightning.training.optimizers import Recipe, sgd

RECIPE = Recipe(partial(sgd, lr=0.1, momentum=0.0, weight_decay=0.0, fused=False))
LIVE = [*SMALL, "stage=fine_tuning", "stage.epochs=1"]


class Seen(nn.Module):
    """A backbone of mean colours that keeps what it was given."""

    num_features = 3

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return images.float().mean((2, 3))


def module(mixing: Mixing) -> tuple[FERModule, Seen]:
    backbone = Seen()
    head = SoftmaxHead(3, ClassStats(("a", "b"), (3, 1)))
    weights = torch.tensor([0.5, 2.0])
    return FERModule(Network(backbone, Identity(3), head), weights, RECIPE, mixing=mixing), backbone


@pytest.mark.parametrize("labels", [torch.tensor([0, 1]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
def test_pictures_and_labels_are_mixed_alike_before_the_backbone(labels: Tensor) -> None:
    torch.manual_seed(0)
    trained, backbone = module(mixup(alpha=1.0))
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[0] = 200
    output = trained.training_step((images, labels), 0)
    share = output["labels"][0, 0]
    assert 0.01 < share < 0.99
    assert backbone.images.dtype == torch.uint8
    assert backbone.images[0].float().unique().item() == round(200 * share.item())
    assert backbone.images[1].float().unique().item() == round(200 * (1 - share.item()))
    torch.testing.assert_close(output["labels"][0], torch.stack([share, 1 - share]))
    log_probabilities = trained.network.head(backbone(backbone.images)).logits.log_softmax(1)
    weights = output["labels"] @ trained.class_weights
    expected = (weights * -(output["labels"] * log_probabilities).sum(1)).mean()
    torch.testing.assert_close(output["loss"], expected)


def test_cutmix_takes_labels_by_area() -> None:
    torch.manual_seed(3)
    trained, backbone = module(cutmix(alpha=1.0))
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    images[0] = 255
    output = trained.training_step((images, torch.tensor([0, 1])), 0)
    share = (backbone.images[0, 0] == 255).float().mean()
    assert 0 < share < 1
    torch.testing.assert_close(output["labels"][0, 0], share)


def test_validation_sees_pictures_as_they_are() -> None:
    trained, backbone = module(mixup(alpha=1.0))
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    trained.validation_step((images, torch.tensor([0, 1])), 0)
    assert torch.equal(backbone.images, images)


def test_a_run_with_mixing_is_another_run_and_one_without_is_what_it_was() -> None:
    plain, mixed = compose(LIVE), compose([*LIVE, "mixing=mixup"])
    assert "mixing" not in identity(plain, {})["config"]
    assert "mixing" not in identity(plain, {})["config"]["choices"]
    assert identity(mixed, {}) != identity(plain, {})
    assert build.mixing(plain) is None


def test_a_loss_without_soft_labels_is_refused() -> None:
    with pytest.raises(UserError, match=r"mixing=mixup: CenterHead takes class indices.*choose mixing=none"):
        set_up(compose([*LIVE, "mixing=mixup", "loss=center"]))


def test_a_run_is_trained_and_says_where_mixing_does_nothing(tmp_path: Path) -> None:
    words = [*SMALL, "stage=two_stage", "stage.epochs=1", "mixing=cutmix"]
    for smoothing in (0.1, 0.2):  # the second finds the first stage trained
        code, said, _ = fer(
            "train", *words, f"loss.label_smoothing={smoothing}", f"hydra.run.dir={tmp_path / 'run'}{smoothing}"
        )
        assert code == 0, said
    (notice,) = (text for text in result(tmp_path / "run0.2")["notices"] if "mixing" in text)
    assert (
        "mixing=cutmix has no effect in a stage that is trained from the embeddings of a frozen backbone" in notice
    )

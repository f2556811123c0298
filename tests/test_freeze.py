"""What a stage freezes is neither trained nor moved, its BatchNorm included."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fer_lightning.contracts import ClassStats
from fer_lightning.errors import UserError
from fer_lightning.freeze import train_last_blocks
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.neck import Identity
from fer_lightning.models.network import Network
from fer_lightning.module import FERModule
from fer_lightning.optim import sgd

STATS = ClassStats(("a", "b"), (5, 5))
LAYERS = ("layer1", "layer2", "layer3", "layer4")
WHOLE = ("conv1", "bn1", *LAYERS)
TRAINED = {0: (), 1: LAYERS[3:], 2: LAYERS[2:], 4: LAYERS, 5: WHOLE, None: WHOLE}


def small_backbone() -> TimmBackbone:
    torch.manual_seed(0)
    shape = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    return TimmBackbone("resnet18", arguments=shape, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def part(name: str) -> str:
    """``network.layer4.0.bn1.weight`` is a part of ``layer4``."""
    return name.removeprefix("network.").partition(".")[0]


def module(blocks: int | None) -> FERModule:
    backbone = small_backbone()
    train_last_blocks(backbone, blocks)
    network = Network(backbone, Identity(backbone.num_features), SoftmaxHead(backbone.num_features, STATS))
    optimizer = partial(sgd, lr=0.1, momentum=0.9, weight_decay=0.01, schedule="constant", warmup=0.0)
    return FERModule(network, torch.ones(2), optimizer)


def pictures(count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return TensorDataset(images, torch.arange(count) % 2)


def fit(trained: FERModule, epochs: int = 2) -> None:
    """Two steps an epoch and a validation after each, by the real Trainer."""
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(trained, DataLoader(pictures(8), batch_size=4), DataLoader(pictures(4), batch_size=4))


def state(backbone: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in backbone.state_dict().items()}


@pytest.mark.parametrize("blocks", TRAINED)
def test_exactly_the_parameters_of_the_last_blocks_are_trained(blocks: int | None) -> None:
    backbone = small_backbone()
    train_last_blocks(backbone, blocks)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (part(name) in TRAINED[blocks]), name


def test_a_later_stage_thaws_what_an_earlier_one_froze() -> None:
    backbone = small_backbone()
    train_last_blocks(backbone, 0)
    train_last_blocks(backbone, 2)
    thawed = {part(name) for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert thawed == {"layer3", "layer4"}


@pytest.mark.parametrize("blocks", [6, 99, -1])
def test_a_number_of_blocks_that_is_not_there_is_refused(blocks: int) -> None:
    with pytest.raises(UserError, match=rf"train_blocks={blocks}.*resnet18 has 5 blocks"):
        train_last_blocks(small_backbone(), blocks)


@pytest.mark.parametrize("blocks", TRAINED)
@pytest.mark.parametrize("say_train", [True, False], ids=["after train()", "as made"])
def test_frozen_norms_are_in_eval_mode_and_trained_ones_are_not(blocks: int | None, say_train: bool) -> None:
    made = module(blocks)
    if say_train:
        made.eval()
        made.train()
    norms = {n: m for n, m in made.network.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) > 8
    for name, norm in norms.items():
        assert norm.training == (part(name) in TRAINED[blocks]), name


@pytest.mark.parametrize("blocks", [1, None])
def test_a_fit_moves_all_that_is_trained_and_nothing_that_is_frozen(blocks: int | None) -> None:
    made = module(blocks)
    before = state(made.network.backbone)
    fit(made)
    for name, value in state(made.network.backbone).items():
        assert torch.equal(value, before[name]) == (part(name) not in TRAINED[blocks]), name


def test_a_frozen_backbone_does_not_depend_on_who_else_is_in_the_batch() -> None:
    made, (images, _) = module(0), pictures(6).tensors
    made.train()
    together = made.network.embed(images)
    one_by_one = torch.cat([made.network.embed(image[None]) for image in images])
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("hf-hub:someone/net", {}), ("resnet18", {"pretrained": True}), ("resnet18", {"checkpoint_path": "x"})],
)
def test_a_backbones_name_and_arguments_make_it_fetch_nothing(name: str, arguments: dict[str, object]) -> None:
    """Name and arguments may come from a checkpoint."""
    with pytest.raises(UserError, match="would fetch weights"):
        TimmBackbone(name, arguments=arguments, mean=[0.0] * 3, std=[1.0] * 3)

"""What a stage freezes is neither trained nor moved, its BatchNorm included."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.freeze import BatchNorm, freeze
from fer_lightning.models.neck import Identity
from fer_lightning.models.network import Network
from fer_lightning.training.module import FERModule
from fer_lightning.training.optimizers import Recipe, sgd

STATS = ClassStats(("a", "b"), (5, 5))
LAYERS = ("layer1", "layer2", "layer3", "layer4")
WHOLE = ("conv1", "bn1", *LAYERS)
TRAINED = {
    "all": (),
    "layer4": (),
    "layer3": LAYERS[3:],
    -1: LAYERS[3:],
    "layer2": LAYERS[2:],
    -2: LAYERS[2:],
    "stem": LAYERS,
    -5: WHOLE,
    "none": WHOLE,
}
"""Parts that are trained, by what is frozen."""


def small_backbone() -> TimmBackbone:
    torch.manual_seed(0)
    shape = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    return TimmBackbone("resnet18", arguments=shape, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def part(name: str) -> str:
    """``network.layer4.0.bn1.weight`` is a part of ``layer4``."""
    return name.removeprefix("network.").partition(".")[0]


def is_trained(name: str, frozen: str | int, batch_norm: BatchNorm = "with_block") -> bool:
    """Whether a policy trains a parameter, told from its name alone."""
    norm = ".bn" in name or ".downsample.1." in name
    return part(name) in TRAINED[frozen] and batch_norm in ("with_block", "only" if norm else "never")


def module(frozen: str | int, batch_norm: BatchNorm = "with_block") -> FERModule:
    backbone = small_backbone()
    freeze(backbone, frozen, batch_norm)
    network = Network(backbone, Identity(backbone.num_features), SoftmaxHead(backbone.num_features, STATS))
    make = partial(sgd, lr=0.1, momentum=0.9, weight_decay=0.01, fused=False)
    return FERModule(network, torch.ones(2), Recipe(make))


def pictures(count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return TensorDataset(images, torch.arange(count) % 2)


def stage(trained: FERModule, epochs: int = 2) -> None:
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


policies = pytest.mark.parametrize("batch_norm", ["with_block", "only", "never"])


@policies
@pytest.mark.parametrize("frozen", TRAINED)
def test_exactly_the_named_parameters_are_trained(frozen: str | int, batch_norm: BatchNorm) -> None:
    backbone = small_backbone()
    freeze(backbone, frozen, batch_norm)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == is_trained(name, frozen, batch_norm), name


def test_a_later_stage_thaws_what_an_earlier_one_froze() -> None:
    backbone = small_backbone()
    freeze(backbone, "all", "with_block")
    freeze(backbone, "layer2", "with_block")
    thawed = {part(name) for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert thawed == {"layer3", "layer4"}


@pytest.mark.parametrize("frozen", [6, -6, 0, "layer5", "conv1", ""])
def test_blocks_that_are_not_there_are_refused(frozen: str | int) -> None:
    with pytest.raises(UserError, match=rf"freeze={frozen}:.*resnet18"):
        freeze(small_backbone(), frozen, "with_block")


def test_batch_norm_only_wants_a_batch_norm() -> None:
    backbone = TimmBackbone("convnext_atto", mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(UserError, match="no trained block of convnext_atto has a BatchNorm"):
        freeze(backbone, "none", "only")


def test_blocks_have_the_names_of_the_network() -> None:
    names = {
        "mobilenetv1_100": ["stem", *(f"blocks.{k}" for k in range(5))],
        "vit_tiny_patch16_224": ["stem", *(f"blocks.{k}" for k in range(12))],
        "legacy_seresnet50": ["layer0", "layer1", "layer2", "layer3", "layer4"],
    }
    for network, expected in names.items():
        backbone = TimmBackbone(network, mean=(0.5,) * 3, std=(0.5,) * 3)
        blocks = backbone.blocks()
        assert [*blocks] == expected
        assert sorted(name for block in blocks.values() for name in block) == sorted(
            name for name, _ in backbone.named_parameters()
        )


@policies
@pytest.mark.parametrize("frozen", TRAINED)
@pytest.mark.parametrize("say_train", [True, False], ids=["after train()", "as made"])
def test_frozen_norms_are_in_eval_mode_and_trained_ones_are_not(
    frozen: str | int, batch_norm: BatchNorm, say_train: bool
) -> None:
    made = module(frozen, batch_norm)
    if say_train:
        made.eval()
        made.train()
    norms = {n: m for n, m in made.network.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) > 8
    for name, norm in norms.items():
        assert norm.training == is_trained(f"{name}.weight", frozen, batch_norm), name


@policies
@pytest.mark.parametrize("frozen", ["all", "layer3", "none"])
def test_a_fit_moves_all_that_is_trained_and_nothing_that_is_frozen(
    frozen: str | int, batch_norm: BatchNorm
) -> None:
    """Parameters and buffers, to the last bit."""
    made = module(frozen, batch_norm)
    before = state(made.network.backbone)
    stage(made)
    for name, value in state(made.network.backbone).items():
        assert torch.equal(value, before[name]) != is_trained(name, frozen, batch_norm), name


@pytest.mark.parametrize("call", ["fit", "validate", "test", "predict"])
def test_every_trainer_call_leaves_what_is_frozen(call: str) -> None:
    made = module("layer3")
    seen: list[bool] = []
    norm, trained = made.network.backbone.network.bn1, made.network.backbone.network.layer4[0].bn1
    norm.register_forward_hook(lambda *_: seen.append(norm.training))
    before = state(made.network.backbone)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, **quiet)
    made.test_step, made.predict_step = made.validation_step, lambda batch, *_: made(batch[0])  # type: ignore[method-assign]
    getattr(trainer, call)(made, DataLoader(pictures(8), batch_size=4))
    assert seen
    assert not any(seen)
    after = state(made.network.backbone)
    assert all(
        torch.equal(after[name], value) for name, value in before.items() if part(name) not in TRAINED["layer3"]
    )
    assert not norm.training
    assert trained.training


def test_a_frozen_backbone_does_not_depend_on_who_else_is_in_the_batch() -> None:
    made, (images, _) = module("all"), pictures(6).tensors
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

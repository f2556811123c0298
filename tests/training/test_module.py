"""The loss that is minimised: class weights by epoch, and labels that are distributions."""

from functools import partial
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fer_lightning.core.contracts import ClassStats, HeadOutput
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.island import IslandHead
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.models.neck import Identity
from fer_lightning.models.network import Network
from fer_lightning.training.module import FERModule
from fer_lightning.training.optimizers import Recipe, sgd

STATS = ClassStats(("a", "b", "c"), (6, 3, 1))
W = torch.tensor([0.5, 1.0, 4.0])
X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


OFF = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def module(
    head: nn.Module | None = None, from_epoch: int = 0, ema_decay: float | None = None, lr: float = 0.1
) -> FERModule:
    torch.manual_seed(0)
    network = Network(nn.Identity(), Identity(4), head or SoftmaxHead(4, STATS))
    recipe = Recipe(partial(sgd, lr=lr, momentum=0.0, weight_decay=0.0, fused=False), ema_decay=ema_decay)
    return FERModule(network, W, recipe, weights_from_epoch=from_epoch)


MARK = 7.0
"""Value of a picture whose loss ``ExtraHead`` raises."""


class ExtraHead(SoftmaxHead):
    """Softmax with something added to the loss of marked pictures."""

    def __init__(self, feature_dim: int, class_stats: ClassStats, *, extra: float) -> None:
        super().__init__(feature_dim, class_stats)
        self.extra = extra

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> HeadOutput:
        output = super().forward(embeddings, labels)
        if output.per_sample is not None:
            output.per_sample = output.per_sample + torch.where(embeddings[:, 0] == MARK, self.extra, 0.0)
        return output


class Watch(Callback):
    """Keeps the weights in force and the loss of each step."""

    def __init__(self) -> None:
        self.weights: list[list[float]] = []
        self.losses: list[float] = []
        self.classifiers: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.weights.append(pl_module.class_weights.tolist())
        self.losses.append(float(outputs["loss"]))
        self.classifiers.append(pl_module.network.head.classifier.weight.detach().clone())


def stage(made: FERModule, epochs: int, labels: Tensor = Y) -> Watch:
    watch = Watch()
    loader = DataLoader(TensorDataset(X, labels), batch_size=len(X))
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[watch], limit_val_batches=0, **OFF)
    trainer.fit(made, loader)
    return watch


@pytest.mark.parametrize("from_epoch", [-2, 0, 1, 2, 9])
def test_class_weights_are_in_force_from_their_epoch_on(from_epoch: int) -> None:
    watch = stage(module(from_epoch=from_epoch), 3)
    assert watch.weights == [W.tolist() if epoch >= from_epoch else [1.0] * 3 for epoch in range(3)]


def test_until_then_it_trains_as_without_weights() -> None:
    deferred, plain = module(from_epoch=2), module(from_epoch=9)
    losses, others = stage(deferred, 3).losses, stage(plain, 3).losses
    assert losses[:2] == others[:2]
    assert losses[2] != others[2]


def test_the_loss_is_the_weighted_mean_and_a_penalty_without_weight() -> None:
    head = IslandHead(4, STATS, weight=0.3, center_update="exact")
    head.init_centers(torch.randn(3, 4))
    made = module(head)
    output = head(X, Y)
    expected = sum(float(W[y]) * float(loss) for y, loss in zip(Y, output.per_sample.detach(), strict=True)) / len(
        Y
    )
    assert stage(made, 1).losses[0] == pytest.approx(expected + float(output.penalty), rel=1e-5)


def test_soft_labels_weigh_a_sample_by_its_expected_weight() -> None:
    soft = torch.randn(12, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    made = module()
    losses = made.network.head(X, soft).per_sample
    expected = sum(float(q @ W) * float(loss) for q, loss in zip(soft, losses.detach(), strict=True)) / len(soft)
    assert stage(made, 1, soft).losses[0] == pytest.approx(expected, rel=1e-5)


def test_one_hot_soft_labels_are_hard_labels() -> None:
    hot = nn.functional.one_hot(Y, 3).float()
    assert stage(module(), 2, hot).losses == pytest.approx(stage(module(), 2).losses, rel=1e-5)


def averages(values: list[Tensor], decay: float) -> Tensor:
    """The running mean after the values of each step, from timm's formula: gamma 1, power 2/3."""
    mean = values[0]
    for step, value in enumerate(values[1:], 2):
        d = min(decay, 1 - step ** (-2 / 3))
        mean = d * mean + (1 - d) * value
    return mean


def test_the_running_mean_of_the_weights_is_what_is_validated_and_kept() -> None:
    made = module(ema_decay=0.4)
    first, second, third = stage(made, 3).classifiers
    expected = averages([first, second, third], 0.4)
    torch.testing.assert_close(made.validated.head.classifier.weight, expected)
    torch.testing.assert_close(made(X), (X @ expected.T + made.validated.head.classifier.bias).softmax(1))
    kept: dict[str, Any] = {"state_dict": made.state_dict()}
    made.on_save_checkpoint(kept)
    torch.testing.assert_close(kept["state_dict"]["network.head.classifier.weight"], expected)
    assert kept["state_dict"].keys() == module().state_dict().keys()
    resumed: dict[str, Any] = {"state_dict": made.state_dict(), "optimizer_states": []}
    made.on_save_checkpoint(resumed)
    torch.testing.assert_close(resumed["state_dict"]["network.head.classifier.weight"], third)
    torch.testing.assert_close(resumed["state_dict"]["averaged.module.head.classifier.weight"], expected)


def test_the_running_mean_changes_nothing_that_is_trained() -> None:
    assert stage(module(ema_decay=0.75), 3).losses == stage(module(), 3).losses


def test_the_running_mean_is_in_eval_mode_and_its_statistics_are_those_of_its_weights() -> None:
    torch.manual_seed(0)
    neck = nn.Sequential(nn.BatchNorm1d(4))
    recipe = Recipe(partial(sgd, lr=0.1, momentum=0.0, weight_decay=0.0, fused=False), ema_decay=0.9)
    made = FERModule(Network(nn.Identity(), neck, SoftmaxHead(4, STATS)), W, recipe)
    means: list[Tensor] = []
    neck.register_forward_hook(lambda *_: means.append(neck[0].running_mean.clone()))
    stage(made, 5)
    assert made.train().network.neck[0].training
    assert not made.validated.neck[0].training
    torch.testing.assert_close(made.validated.neck[0].running_mean, averages(means, 0.9))
    assert made.validated.neck[0].num_batches_tracked == 5


def test_centers_that_are_moved_are_averaged_with_the_embeddings() -> None:
    head = CenterHead(4, STATS)
    head.init_centers(torch.randn(3, 4))
    made = module(head, ema_decay=0.999)
    after_step, seen = head.after_step, []
    head.after_step = lambda: (after_step(), seen.append(head.centers.clone()))  # type: ignore[assignment]
    stage(made, 4)
    torch.testing.assert_close(made.validated.head.centers, averages(seen, 0.999))


def test_a_short_fit_validates_weights_that_have_learnt() -> None:
    """A mean with a constant decay of 0.999 would be within 4 % of where it began after 40 steps."""
    made = module(ema_decay=0.999, lr=1.0)
    start = made.network.head.classifier.weight.detach().clone()
    stage(made, 40)
    learnt = made.network.head.classifier.weight - start
    kept = made.validated.head.classifier.weight - start
    assert float((learnt * kept).sum() / learnt.square().sum()) > 0.7


def validated(made: FERModule, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What an epoch that trains nothing logs of a minival."""
    loaders = [DataLoader(TensorDataset(X, Y)), DataLoader(TensorDataset(images, labels), batch_size=4)]
    trainer = Trainer(max_epochs=1, accelerator="cpu", limit_train_batches=1, num_sanity_val_steps=0, **OFF)
    trainer.fit(made, *loaders)
    return dict(trainer.callback_metrics)


def test_a_class_that_the_minival_lacks_does_not_count_even_where_it_is_predicted() -> None:
    made = module(lr=1e-12)
    with torch.no_grad():
        made.network.head.classifier.weight.copy_(torch.eye(3, 4))
        made.network.head.classifier.bias.zero_()
    predicted, labels = torch.tensor([0, 0, 1, 2, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0, 1, 1])
    logged = validated(made, 9.0 * torch.eye(4)[predicted], labels)
    assert float(logged["minival/macro_recall"]) == (1 + 3 / 4) / 2
    assert float(logged["minival/accuracy"]) == 6 / 7


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf")])
def test_the_minivals_loss_is_the_mean_over_its_pictures_also_where_that_is_no_number(value: float) -> None:
    made = module(ExtraHead(4, STATS, extra=value), lr=1e-12)
    images = X[:7].clone()
    images[-1] = MARK
    per_sample = made.network.head(images, Y[:7]).per_sample.detach()
    logged = validated(made, images, Y[:7])  # in batches of four and three
    expected = float((W[Y[:7]] * per_sample).mean())
    assert float(logged["minival/loss"]) == pytest.approx(expected, rel=1e-6, nan_ok=True)

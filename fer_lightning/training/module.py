"""FERModule trains and validates a network with a loss head; it knows no data, stages or files."""

from __future__ import annotations

from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor
from torch.nn import functional
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from fer_lightning.core.contracts import HeadOutput
from fer_lightning.evaluation import metrics
from fer_lightning.inference.checkpoint import CARD, seal
from fer_lightning.losses.softmax import at_least_float32
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.freeze import keep_frozen_in_eval
from fer_lightning.models.network import Network
from fer_lightning.training.distributed import broadcast_buffers
from fer_lightning.training.mixing import Mixing
from fer_lightning.training.optimizers import Recipe

MONITOR = "minival/macro_recall"
"""The metric by which the best checkpoint is chosen."""

MINIVAL_LOSS = "minival/loss"
"""The mean loss of the minival's pictures."""

SCORES = ("macro_recall", "accuracy")
"""Metrics of a confusion matrix that are logged after every epoch."""


class FERModule(LightningModule):
    """Module that trains a network with the loss mean_i( w[y_i] * per_sample_i ) + penalty.

    Args:
        network: backbone, neck and head.
        class_weights: w (C,). The buffer of that name holds the weights of the current epoch.
        recipe: optimizer, schedule and weight averaging.
        card: description of the network for checkpoints, as plain values.
        channels_last: whether pictures and kernels are in this memory format.
        frozen_backbone: backbone whose cached embeddings are the input; it is added to checkpoints.
        weights_from_epoch: epoch of this stage before which all weights are one (deferred re-weighting, Cao et
            al., NeurIPS 2019).
        mixing: mixes training pictures and labels before the backbone; None: no mixing.
    """

    class_weights: Tensor
    full_class_weights: Tensor

    def __init__(
        self,
        network: Network,
        class_weights: Tensor,
        recipe: Recipe,
        *,
        card: dict[str, Any] | None = None,
        channels_last: bool = False,
        frozen_backbone: Backbone | None = None,
        weights_from_epoch: int = 0,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.weights_from_epoch = weights_from_epoch
        self.mixing = mixing
        self.register_buffer("full_class_weights", class_weights, persistent=False)
        self.register_buffer("class_weights", class_weights.clone())
        self.recipe = recipe
        self.card = card or {}
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            network.to(memory_format=torch.channels_last)
        self.averaged: ModelEmaV3 | None = None
        if recipe.ema_decay is not None:
            # parameters and buffers, so that the statistics of BatchNorm, and centers, belong to the mean weights
            self.averaged = ModelEmaV3(network, recipe.ema_decay, use_warmup=True)
            self.averaged.requires_grad_(False)
        # in a list, so that it does not become a submodule
        self._frozen_backbones: list[Backbone] = [] if frozen_backbone is None else [frozen_backbone]
        # not a MeanMetric: that ignores nan, and waits for the GPU in every step to detect it
        self.loss_sums: dict[str, Tensor] = {}
        self.samples = 0
        classes = len(class_weights)
        self.minival = MulticlassConfusionMatrix(classes, validate_args=False)  # to validate waits for the GPU
        self.watched = MulticlassConfusionMatrix(classes, validate_args=False)
        # not a MeanMetric: that ignores nan or, with nan_strategy="disable", the sizes of batches
        self.minival_loss = SumMetric(nan_strategy="disable")
        self.train()  # Lightning keeps the modes of submodules: without this, frozen BatchNorm would train

    def train(self, mode: bool = True) -> FERModule:
        """Set training mode for what is trained; what is frozen stays in eval mode."""
        super().train(mode)
        keep_frozen_in_eval(self)
        return self

    @property
    def validated(self) -> Network:
        """Return the network that is validated and kept: the trained one, or the running mean of its weights."""
        return self.network if self.averaged is None else cast(Network, self.averaged.module)

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities (N, C)."""
        output: HeadOutput = self.validated(images)
        return at_least_float32(output.logits).softmax(1)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Convert pictures to the memory format of the kernels."""
        images, labels = batch
        if images.ndim != 4:  # embeddings, or activations of tokens
            return images, labels
        return images.contiguous(memory_format=self.memory_format), labels

    def _weights(self, labels: Tensor) -> Tensor:
        """Return q_i . w (N,), where q_i is the one-hot or soft label."""
        w = self.class_weights
        return w.index_select(0, labels) if labels.ndim == 1 else labels.to(w.dtype) @ w

    def _loss(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """Return mean_i( (q_i . w) per_sample_i ) + penalty."""
        assert output.per_sample is not None
        return (self._weights(labels) * output.per_sample).mean() + output.penalty

    def on_train_epoch_start(self) -> None:
        """Set the class weights of this epoch: ones before ``weights_from_epoch``."""
        is_weighted = self.current_epoch >= self.weights_from_epoch
        self.class_weights.copy_(self.full_class_weights if is_weighted else torch.ones_like(self.class_weights))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> dict[str, Any]:
        """Return the loss of a batch and, for callbacks, its embeddings, labels, per_sample, terms and penalty."""
        images, labels = batch if self.mixing is None else self._mixed(*batch, self.mixing)
        embeddings = self.network.embed(images)
        output = self.network.head(embeddings, labels)
        loss = self._loss(output, labels)
        if observe := getattr(self.network.head, "observe", None):
            observe(embeddings, labels, self.class_weights)
        self._count(loss.detach(), output, labels)
        return {
            "loss": loss,
            "embeddings": embeddings.detach(),
            "labels": labels,
            "per_sample": output.per_sample.detach(),
            "terms": {name: term.detach() for name, term in output.terms.items()},
            "penalty": torch.as_tensor(output.penalty).detach(),
        }

    def _mixed(self, images: Tensor, labels: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
        """Return mixed pictures in their original dtype, and soft labels (N, C)."""
        one_hot = functional.one_hot(labels, len(self.class_weights)) if labels.ndim == 1 else labels
        mixed, targets = mixing(images.float(), one_hot.to(self.class_weights.dtype))
        return mixed.round().to(images.dtype), targets

    @torch.no_grad()
    def _count(self, loss: Tensor, output: HeadOutput, labels: Tensor) -> None:
        """Add the loss of a batch, and its parts, to the sums of the epoch."""
        weights = self._weights(labels)
        parts = {name: (weights * term).sum() for name, term in output.terms.items()}
        if isinstance(output.penalty, Tensor):
            parts["penalty"] = output.penalty * len(labels)
        for name, value in {"loss": loss * len(labels), **parts}.items():
            self.loss_sums[name] = self.loss_sums[name] + value if name in self.loss_sums else value
        self.samples += len(labels)

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch and of its parts over all ranks."""
        for name, value in self.loss_sums.items():
            self.log(f"train/{name}", value / self.samples, sync_dist=True)
        self.loss_sums, self.samples = {}, 0

    def on_validation_start(self) -> None:
        """Let all ranks validate the network of rank 0, which is kept.

        Since the last step began, BatchNorm has seen other pictures on each rank. DistributedDataParallel keeps
        rank 0's buffers at each step, so that a mean over the ranks would differ by their last steps alone; and
        there are buffers that have no mean.
        """
        broadcast_buffers(self)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int, dataloader_idx: int = 0) -> None:
        """Update the metrics with a batch of the minival or, from the second loader, of the test set."""
        images, labels = batch
        output = self.validated(images, labels)
        probabilities = at_least_float32(output.logits).softmax(1)
        if dataloader_idx:
            self.watched.update(probabilities, labels)
            return
        self.minival.update(probabilities, labels)
        self.minival_loss.update(self._loss(output, labels) * len(labels))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the minival and, if there is a second loader, of the test set, over all ranks."""
        self.log(MINIVAL_LOSS, self.minival_loss.compute() / self.minival.compute().sum())
        self.minival_loss.reset()
        self._log_scores("minival", self.minival)
        if len(self.trainer.num_val_batches) > 1:
            self._log_scores("test", self.watched)

    def _log_scores(self, part: str, confusion: MulticlassConfusionMatrix) -> None:
        """Log the scores of a part's confusion matrix, which are those of a result, and reset it."""
        counts = confusion.compute().cpu().numpy()
        for name in SCORES:
            score = torch.from_numpy(metrics.METRICS[name].of_counts(counts)).to(self.device)
            self.log(f"{part}/{name}", score, prog_bar=part == "minival")
        confusion.reset()

    def configure_optimizers(self) -> Any:
        """Build one optimizer of all trained parameters but the centers, and its schedule by step."""
        optimizer, schedule = self.recipe.build(self.network, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step of the optimizer, then of the head, then of the running mean of the weights."""
        super().optimizer_step(*args, **kwargs)
        if after_step := getattr(self.network.head, "after_step", None):
            after_step()
        if self.averaged is not None:
            self.averaged.update(self.network, step=self.trainer.global_step + 1)  # this step is not counted yet

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the card, which rebuilds the network without the configuration of the run.

        A checkpoint without optimizer states is for inference: it holds the network that was validated.
        """
        checkpoint[CARD] = self.card
        state = checkpoint["state_dict"]
        if "optimizer_states" not in checkpoint and self.averaged is not None:
            mean = self.averaged.module.state_dict(prefix="network.")
            state = {key: value for key, value in state.items() if not key.startswith("averaged.")} | mean
        for backbone in self._frozen_backbones:
            state = state | backbone.state_dict(prefix="network.backbone.")
        checkpoint["state_dict"] = state
        if "optimizer_states" not in checkpoint:
            seal(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove the frozen backbone that ``on_save_checkpoint`` added."""
        for backbone in self._frozen_backbones:
            for key in backbone.state_dict(prefix="network.backbone."):
                checkpoint["state_dict"].pop(key, None)

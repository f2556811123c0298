"""Builds loss head and class weights from a config; planning a sweep imports this, so it needs torch alone."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fer_lightning.config.instantiate import is_own, make
from fer_lightning.core.contracts import ClassStats, HeadOutput
from fer_lightning.core.errors import UserError, in_one_line
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.training import class_weights as weighting

Config = dict[str, Any]
Loss = Literal["configured", "softmax"]

_FEATURES = 6  # size of the random embeddings that a head is tried on


def head(config: Config, loss: Loss, feature_dim: int, stats: ClassStats) -> nn.Module:
    """Build the head of a stage: the configured one, or softmax if the stage has ``loss=softmax``.

    Raises:
        UserError: a number is out of range, the labels are soft and the head does not take them, or a head of the
            user's own does not return what a head must.
    """
    if loss == "softmax":
        return SoftmaxHead(feature_dim, stats)
    configured: nn.Module = make("loss", config["loss"], feature_dim, stats)
    if is_own(config["loss"]):
        _check_head(config["loss"]["_target_"], configured, feature_dim, stats.num_classes)
    if config["data"].get("soft_labels") and not getattr(configured, "soft_labels", False):
        raise UserError(
            f"data.soft_labels=true: {type(configured).__name__} takes class indices only; choose a loss that is "
            "linear in the label, such as softmax or balanced_softmax, or data.soft_labels=false"
        )
    return configured


def _check_head(name: str, head: nn.Module, feature_dim: int, classes: int) -> None:
    """Refuse a head that does not return what a head must; it is tried on C + 1 random embeddings."""
    if not isinstance(head, nn.Module):
        raise UserError(f"loss: {name} must make a torch.nn.Module, not {type(head).__name__}")
    samples = classes + 1
    embeddings, labels = torch.randn(samples, feature_dim), torch.arange(samples) % classes
    with in_one_line(f"loss: {name}", own=True):
        copy = deepcopy(head).eval()
        output, unlabelled = copy(embeddings, labels), copy(embeddings)
    for returned in (output, unlabelled):
        if not isinstance(returned, HeadOutput):
            raise UserError(f"loss: {name} must return a HeadOutput, not {type(returned).__name__}")
    shapes = {
        "logits (N, C)": (output.logits, (samples, classes)),
        "per_sample (N,)": (output.per_sample, (samples,)),
        **{f"terms[{name!r}] (N,)": (term, (samples,)) for name, term in output.terms.items()},
    }
    for field, (value, shape) in shapes.items():
        if not isinstance(value, Tensor) or value.shape != shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"loss: {name} must return {field}: {shape} for {samples} embeddings, not {got}")
    if unlabelled.per_sample is not None or not torch.allclose(output.logits, unlabelled.logits):
        raise UserError(f"loss: {name} must return the same logits without labels, and then no per_sample")


def class_weights(config: Config, stats: ClassStats) -> Tensor:
    """Return w (C,) of the training part, scaled as the config says.

    Raises:
        UserError: the scheme refuses the counts or a number, or does not return C positive numbers.
    """
    node = {key: value for key, value in config["class_weights"].items() if key != "from_epoch"}
    normalisation = node.pop("normalise")
    returned = make("class_weights", node, stats.counts, class_names=stats.names)
    with in_one_line(f"class_weights: {node['_target_']}", own=is_own(node)):
        weights = torch.as_tensor(returned, dtype=torch.get_default_dtype())
    if weights.shape != (stats.num_classes,) or not (weights.isfinite() & (weights > 0)).all():
        raise UserError(
            f"class_weights: {node['_target_']} must return {stats.num_classes} positive numbers, not {returned}"
        )
    return weighting.normalise(weights, stats.counts, normalisation)


def assumed_stats(config: Config) -> ClassStats:
    """Return the classes of the config with equal counts, for use before the data is read."""
    names = tuple(config["data"]["classes"])
    return ClassStats(names, (100,) * len(names))


def try_out(config: Config) -> None:
    """Build head and class weights before the data is read, to find mistakes.

    Raises:
        UserError: one of them cannot be built, or does not return what it must.
    """
    stats = assumed_stats(config)
    head(config, "configured", _FEATURES, stats)
    class_weights(config, stats)

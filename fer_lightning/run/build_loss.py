"""The loss head and the class weights, from a config. Planning a sweep needs them: nothing heavier than torch."""

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

_FEATURES = 6  # width of the made-up embeddings that a head is tried on


def head(config: Config, loss: Literal["configured", "softmax"], feature_dim: int, stats: ClassStats) -> nn.Module:
    """The head of a stage: the configured one, or softmax where it says so.

    Raises:
        UserError: a number makes no sense, or a head of the user's own does not do what a head must.
    """
    if loss == "softmax":
        return SoftmaxHead(feature_dim, stats)
    made: nn.Module = make("loss", config["loss"], feature_dim, stats)
    if is_own(config["loss"]):
        _require_manners(config["loss"]["_target_"], made, feature_dim, stats.num_classes)
    return made


def _require_manners(name: str, made: nn.Module, feature_dim: int, classes: int) -> None:
    """Try a copy of a head on as many embeddings as there are classes, and one more."""
    if not isinstance(made, nn.Module):
        raise UserError(f"loss: {name} must make a torch.nn.Module, not {type(made).__name__}")
    samples = classes + 1
    embeddings, labels = torch.randn(samples, feature_dim), torch.arange(samples) % classes
    with in_one_line(f"loss: {name}", own=True):
        tried = deepcopy(made).eval()
        output, without = tried(embeddings, labels), tried(embeddings)
    for outcome in (output, without):
        if not isinstance(outcome, HeadOutput):
            raise UserError(f"loss: {name} must return a HeadOutput, not {type(outcome).__name__}")
    shapes = {
        "logits (N, C)": (output.logits, (samples, classes)),
        "per_sample (N,)": (output.per_sample, (samples,)),
        **{f"terms[{name!r}] (N,)": (term, (samples,)) for name, term in output.terms.items()},
    }
    for what, (value, shape) in shapes.items():
        if not isinstance(value, Tensor) or value.shape != shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"loss: {name} must return {what}: {shape} for {samples} embeddings, not {got}")
    if without.per_sample is not None or not torch.allclose(output.logits, without.logits):
        raise UserError(f"loss: {name} must return the same logits without labels, and then no per_sample")


def class_weights(config: Config, stats: ClassStats) -> Tensor:
    """w (C,) of the training part, scaled as the config says.

    Raises:
        UserError: the scheme refuses the counts or a number, or gives something else than C positive numbers.
    """
    node = {key: value for key, value in config["class_weights"].items() if key != "from_epoch"}
    how = node.pop("normalise")
    made = make("class_weights", node, stats.counts)
    with in_one_line(f"class_weights: {node['_target_']}", own=is_own(node)):
        weights = torch.as_tensor(made, dtype=torch.get_default_dtype())
    if weights.shape != (stats.num_classes,) or not (weights.isfinite() & (weights > 0)).all():
        raise UserError(
            f"class_weights: {node['_target_']} must return {stats.num_classes} positive numbers, not {made}"
        )
    return weighting.normalise(weights, stats.counts, how)


def try_out(config: Config) -> None:
    """Make head and class weights for as many classes as the config names, all alike, before any data is read.

    Raises:
        UserError: one of them cannot be made, or does not do what it must.
    """
    names = tuple(config["data"]["classes"])
    stats = ClassStats(names, (100,) * len(names))
    made = head(config, "configured", _FEATURES, stats)
    if config["data"].get("soft_labels") and not getattr(made, "soft_labels", False):
        raise UserError(
            f"data.soft_labels=true: {type(made).__name__} takes class indices only; choose a loss that is linear "
            "in the label, such as softmax or balanced_softmax, or data.soft_labels=false"
        )
    class_weights(config, stats)

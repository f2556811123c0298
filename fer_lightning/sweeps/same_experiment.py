"""Finds runs that are the same experiment although their settings differ. Needs torch and nothing heavier.

Examples are min_over_count and inverse with the same scale, balanced softmax and logit adjustment with tau 1, and
center loss over nothing that is trained. ``objective`` finds them by trying: it takes gradients of each loss at
the same made-up embeddings.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from fer_lightning.config import identity
from fer_lightning.config.instantiate import make
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.files import content_hash
from fer_lightning.run.build_loss import Loss, class_weights, head

Config = dict[str, Any]
Label = TypeVar("Label")

_FEATURES = 6
_BATCHES = 3
_TOLERANCE = 1e-6
"""Relative distance up to which gradients, and factors of 1, are the same: class weights are float32."""


@dataclass(frozen=True)
class Objective:
    """Description of a run to compare: the gradients of its loss with class weights, and a hash of all the rest.

    Attributes:
        rest: hash of the run's identity without loss and class weights, of the names of what is trained, and of
            the epochs that each loss and weighting lasts.
        gradients: gradients at made-up embeddings, concatenated.
    """

    rest: str
    gradients: Tensor

    def factor_to(self, other: Objective) -> float | None:
        """Return k if ``other`` is this experiment with k times the loss, 1 for the same; None for another one."""
        if self.rest != other.rest:
            return None
        if not self.gradients.any():  # nothing is trained in either
            return 1.0
        factor = float(self.gradients @ other.gradients / (self.gradients @ self.gradients))
        distance = (other.gradients - factor * self.gradients).norm() / other.gradients.norm()
        if distance > _TOLERANCE:
            return None
        return 1.0 if abs(factor - 1) < _TOLERANCE else factor


class Distinct(Generic[Label]):
    """Objectives that all differ, each with a label."""

    def __init__(self) -> None:
        self._by_rest: dict[str, list[tuple[Label, Objective]]] = defaultdict(list)

    def add(self, label: Label, objective: Objective) -> tuple[Label, float] | None:
        """Add an objective unless it equals an earlier one.

        Returns:
            The label of the earlier objective that it equals, and 1; else the label of the first that it equals up
            to a factor of the loss, and the factor; else None.
        """
        earlier = self._by_rest[objective.rest]
        factors = [(other_label, other.factor_to(objective)) for other_label, other in earlier]
        matches = [(other_label, factor) for other_label, factor in factors if factor is not None]
        match = min(matches, key=lambda match: match[1] != 1, default=None)
        if match is None or match[1] != 1:
            earlier.append((label, objective))
        return match


def objective(config: Config, protocol: Config, stats: ClassStats) -> Objective:
    """Return the objective of a run.

    Args:
        config: the resolved config.
        protocol: the run's data and weights, see ``run.build.protocol``.
        stats: the classes of the training part.
    """
    gradients: dict[str, Tensor] = {}
    configured, trains_below = json.dumps(config["loss"]), _trains_below(config)
    for number, (loss, epochs, weights) in enumerate(_epoch_spans(config, stats)):
        of_span = _gradients(configured if loss == "configured" else None, weights, stats, trains_below)
        gradients |= {f"{number} {epochs} {name}": gradient for name, gradient in of_span.items()}
    others = {key: value for key, value in config.items() if key not in ("loss", "class_weights")}
    others["choices"] = {k: v for k, v in config["choices"].items() if k not in ("loss", "class_weights")}
    sizes = [[name, len(gradient)] for name, gradient in gradients.items()]
    rest = content_hash([identity.identity(others, protocol), sizes])
    return Objective(rest, torch.cat([*gradients.values(), torch.zeros(1, dtype=torch.float64)]))


def _epoch_spans(config: Config, stats: ClassStats) -> list[tuple[Loss, int, tuple[float, ...]]]:
    """Return the loss, the number of epochs and the class weights (C,) of each span of epochs that share these."""
    weights, start = tuple(class_weights(config, stats).tolist()), config["class_weights"]["from_epoch"]
    ones = (1.0,) * stats.num_classes
    stages = [node for node in config["stage"].values() if isinstance(node, dict)]
    losses = [stage["loss"] for stage in stages for _ in range(stage["epochs"])]
    by_epoch = [(loss, weights if epoch >= start else ones) for epoch, loss in enumerate(losses)]
    return [(loss, len(list(span)), w) for (loss, w), span in groupby(by_epoch)]


@cache
def _gradients(
    loss: str | None, weights: tuple[float, ...], stats: ClassStats, trains_below: bool
) -> dict[str, Tensor]:
    """Return the gradients of a weighted loss by parameter, and of the embeddings if something below is trained.

    Args:
        loss: the config of the loss as JSON; None for softmax. All arguments can be hashed, so that runs share the
            result over seeds.
        weights: class weights (C,).
        stats: names and counts of the classes.
        trains_below: whether anything below the head is trained.
    """
    w, classes = torch.tensor(weights, dtype=torch.float64), stats.num_classes
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(_BATCHES, 2 * classes, _FEATURES, dtype=torch.float64, generator=generator)
    centers = torch.randn(classes, _FEATURES, dtype=torch.float64, generator=generator)
    labels = torch.arange(classes).repeat(2)
    torch.default_generator.manual_seed(1)  # for the head; torch.manual_seed also seeds all devices: slow
    kind: Loss = "configured" if loss else "softmax"
    module: Any = head({"loss": json.loads(loss or "null"), "data": {}}, kind, _FEATURES, stats).double()
    _call_hook(module, "init_centers", centers)
    gradients: dict[str, list[Tensor]] = {}
    for batch in embeddings:
        features = batch.clone().requires_grad_()
        output = module(features, labels)
        ((w.index_select(0, labels) * output.per_sample).mean() + output.penalty).backward()
        of_batch = {name: value.grad for name, value in module.named_parameters() if name != "centers"}
        if trains_below:
            of_batch["embeddings"] = features.grad
        for name, gradient in of_batch.items():
            if gradient is not None and gradient.any():
                gradients.setdefault(name, []).append(gradient.detach().clone().flatten())
        _call_hook(module, "observe", features, labels, w)
        _call_hook(module, "after_step")  # later batches differ by how centers have moved
        module.zero_grad()
    return {name: torch.cat(parts) for name, parts in gradients.items()}


def _call_hook(module: Any, name: str, *arguments: Tensor) -> None:
    if hook := getattr(module, name, None):
        hook(*arguments)


def _trains_below(config: Config) -> bool:
    """Return whether anything between the pictures and the head is trained with the run's loss."""
    stages = [node for node in config["stage"].values() if isinstance(node, dict) and node["loss"] == "configured"]
    if any(stage["freeze"] != "all" for stage in stages):
        return True
    return any(True for _ in make("neck", config["neck"], 1).parameters())

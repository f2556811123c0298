"""What a run minimises: its head and class weights, from its config. Needs torch and nothing heavier.

Two runs whose settings look different may be the same experiment: min_over_count and inverse scaled alike,
balanced softmax and logit adjustment with tau 1, center loss over nothing that is trained. ``objective`` finds out
by trying: it lets each head answer to the same made-up embeddings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Generic, Literal, TypeVar

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
_SHOWINGS = 3
_SAME = 1e-6
"""Answers this close in direction, and factors this close to 1, are the same: class weights are float32."""


@dataclass(frozen=True)
class Objective:
    """What tells a run from another: everything but loss and weights by hash, these by how they move things.

    Attributes:
        rest: hash of the run's identity without its loss and class weights, of its stretches of epochs, and of
            what is moved.
        answers: gradients at made-up embeddings, one after the other.
    """

    rest: str
    answers: Tensor

    def factor_to(self, other: Objective) -> float | None:
        """k where ``other`` is this experiment with k times the loss, 1 for the same; None where it is another."""
        if self.rest != other.rest:
            return None
        if not self.answers.any():  # nothing is trained in either
            return 1.0
        factor = float(self.answers @ other.answers / (self.answers @ self.answers))
        apart = (other.answers - factor * self.answers).norm() / other.answers.norm()
        if apart > _SAME:
            return None
        return 1.0 if abs(factor - 1) < _SAME else factor


class Distinct(Generic[Label]):
    """Objectives that are not the same, each with a label."""

    def __init__(self) -> None:
        self._by_rest: dict[str, list[tuple[Label, Objective]]] = {}

    def add(self, label: Label, own: Objective) -> tuple[Label, float] | None:
        """Add an objective, unless it is one of those that are there.

        Returns:
            The label of that one, and 1; or of the first that it is but for a factor of the loss, and the factor.
        """
        alike = self._by_rest.setdefault(own.rest, [])
        factors = [(other, objective.factor_to(own)) for other, objective in alike]
        found = [(other, factor) for other, factor in factors if factor is not None]
        same = min(found, key=lambda pair: pair[1] != 1, default=None)
        if same is None or same[1] != 1:
            alike.append((label, own))
        return same


def objective(config: Config, protocol: Config, stats: ClassStats) -> Objective:
    """The objective of a run.

    Args:
        config: its resolved config.
        protocol: its data and weights.
        stats: the classes of its training part.
    """
    answers: dict[str, Tensor] = {}
    below = _trains_below(config)
    for number, (loss, epochs, w) in enumerate(_stretches(config, stats)):
        asked = [config["loss"] if loss == "configured" else None, w.tolist(), stats.names, stats.counts, below]
        found = _answers(json.dumps(asked))
        answers |= {f"{number} {epochs} {name}": value for name, value in found.items()}
    others = {key: value for key, value in config.items() if key not in ("loss", "class_weights")}
    others["choices"] = {k: v for k, v in config["choices"].items() if k not in ("loss", "class_weights")}
    rest = content_hash([identity.identity(others, protocol), [[name, len(v)] for name, v in answers.items()]])
    return Objective(rest, torch.cat([*answers.values(), torch.zeros(1, dtype=torch.float64)]))


def _stretches(config: Config, stats: ClassStats) -> list[tuple[Literal["configured", "softmax"], int, Tensor]]:
    """Stretches of epochs with the same loss and weights: which, how many, and w (C,)."""
    w, start = class_weights(config, stats), config["class_weights"]["from_epoch"]
    stages = [node for node in config["stage"].values() if isinstance(node, dict)]
    epochs = [stage["loss"] for stage in stages for _ in range(stage["epochs"])]
    plain = torch.ones_like(w)
    by_epoch = [(loss, not (epoch < start or torch.equal(w, plain))) for epoch, loss in enumerate(epochs)]
    return [(loss, len(list(run)), w if weighted else plain) for (loss, weighted), run in groupby(by_epoch)]


@cache
def _answers(asked: str) -> dict[str, Tensor]:
    """What a head's loss does to each trained number, and to the embeddings where something below is trained.

    Args:
        asked: JSON of all that it depends on, so that seeds share it: the loss, None for softmax; class weights;
            names and counts of the classes; whether anything below the head is trained.
    """
    loss, weights, names, counts, below = json.loads(asked)
    stats, w = ClassStats(tuple(names), tuple(counts)), torch.tensor(weights, dtype=torch.float64)
    draw, classes = torch.Generator().manual_seed(0), stats.num_classes
    embeddings = torch.randn(_SHOWINGS, 2 * classes, _FEATURES, dtype=torch.float64, generator=draw)
    centers = torch.randn(classes, _FEATURES, dtype=torch.float64, generator=draw)
    labels = torch.arange(classes).repeat(2)
    torch.default_generator.manual_seed(1)  # which the head draws from; seeding those of all devices takes longer
    kind: Loss = "configured" if loss else "softmax"
    made: Any = head({"loss": loss, "data": {}}, kind, _FEATURES, stats).double()
    getattr(made, "init_centers", lambda _: None)(centers)
    found: dict[str, list[Tensor]] = {}
    for showing in embeddings:
        features = showing.clone().requires_grad_()
        output = made(features, labels)
        ((w.index_select(0, labels) * output.per_sample).mean() + output.penalty).backward()
        moved = {name: value.grad for name, value in made.named_parameters() if name != "centers"}
        if below:
            moved["embeddings"] = features.grad
        for name, gradient in moved.items():
            if gradient is not None and gradient.any():
                found.setdefault(name, []).append(gradient.detach().clone().flatten())
        for hook, given in (("observe", (features, labels, w)), ("after_step", ())):
            getattr(made, hook, lambda *_: None)(*given)  # how centers move tells later showings apart
        made.zero_grad()
    return {name: torch.cat(gradients) for name, gradients in found.items()}


def _trains_below(config: Config) -> bool:
    """Whether anything between the pictures and the head is trained with the run's loss."""
    stages = [node for node in config["stage"].values() if isinstance(node, dict) and node["loss"] == "configured"]
    if any(stage["freeze"] != "all" for stage in stages):
        return True
    return any(True for _ in make("neck", config["neck"], 1).parameters())

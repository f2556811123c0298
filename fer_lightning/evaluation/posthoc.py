"""The registry of corrections of a trained classifier's logits, which take no training.

Each fits one number on images held out of training, the minival and never the test set, and turns logits (N, C)
into logits (N, C). An entry of ``CORRECTIONS`` is all that a correction needs to stand in result.json and in
tables. Reading the registry needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fer_lightning.core.contracts import ClassStats

Labelled: TypeAlias = "tuple[Tensor, Tensor]"
"""Logits (N, C) and class indices (N,) of the same images."""

_TEMPERATURES = (1e-3, 1e3)
_ADJUSTMENTS = (-5.0, 25.0)  # wide: tau grows with the logits, and falls below 0 where a loss overdid the rare


class Corrected(NamedTuple):
    """A correction's fitted number by its name, ``tau`` or ``temperature``, and the corrected logits (N, C)."""

    fitted: dict[str, float]
    logits: Tensor


@dataclass(frozen=True)
class Correction:
    """A correction after training.

    Args:
        name: key in result.json and in a table's file.
        heading: its name in column headings.
        metric: metric that it is meant to improve, shown for it in a table's Markdown.
        fit: takes logits and labels of the minival, the classes with their training images and the head; returns
            the fitted number by its name, or None where the head does not allow it. Raises ValueError where a
            class has no image.
        apply: takes logits (N, C), what ``fit`` returned, the classes and the head; returns corrected logits.
    """

    name: str
    heading: str
    metric: str
    fit: Callable[[Labelled, ClassStats, nn.Module], dict[str, float] | None]
    apply: Callable[[Tensor, Mapping[str, float], ClassStats, nn.Module], Tensor]


def _class_counts(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the number of images of each class (C,).

    Raises:
        ValueError: a class has no image.
    """
    import torch

    counts = torch.bincount(labels, minlength=logits.shape[1])
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no image to fit a correction on")
    return counts


def _at_best_temperature(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> tuple[float, float]:
    """Return the T > 0 with the least cross-entropy of logits / T, and that cross-entropy.

    Args:
        logits: (N, C).
        labels: class indices (N,).
        weight: class weights (C,); None: equal weights.
    """
    from scipy.optimize import minimize_scalar
    from torch.nn import functional as F

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels, weight).item()

    low, high = map(math.log, _TEMPERATURES)
    minimum = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return math.exp(minimum.x), minimum.fun


def _fit_tau(
    correct: Callable[[float], Tensor], logits: Tensor, labels: Tensor, bounds: tuple[float, float]
) -> float:
    """Return the tau whose corrected logits have the least class-balanced cross-entropy.

    Each tau is judged at the temperature that is best for it.
    """
    from scipy.optimize import minimize_scalar

    # Not by the macro recall: with ten images of a rare class it is a staircase, whose best step is chance. Not
    # without the temperature: tau would then make up for over-confidence too, while arg-max knows no scale.
    weight = 1 / _class_counts(logits, labels).double()

    def loss(tau: float) -> float:
        return _at_best_temperature(correct(tau).double(), labels, weight)[1]

    return float(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def apply_logit_adjustment(logits: Tensor, counts: Sequence[int], tau: float) -> Tensor:
    """Return z - tau log pi, with pi the classes' shares of the training part.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 9. Calibrated logits of a plain
    softmax classifier want tau = 1.

    Args:
        logits: z (N, C).
        counts: number of training images of each class (C,).
        tau: factor of the log prior that is subtracted; 0 changes nothing.

    Raises:
        ValueError: a class has no training image.
    """
    import torch

    if min(counts) <= 0:
        raise ValueError(f"class {counts.index(min(counts))} has no training image")
    numbers = torch.tensor(counts, dtype=logits.dtype)
    return logits - tau * (numbers / numbers.sum()).log()


def fit_logit_adjustment(logits: Tensor, labels: Tensor, counts: Sequence[int]) -> float:
    """Return tau of ``apply_logit_adjustment`` for logits (N, C) with labels (N,) that were not trained on.

    Where all counts are equal, all values of tau are equally good.

    Raises:
        ValueError: a class has no image here, or none in training.
    """
    return _fit_tau(lambda tau: apply_logit_adjustment(logits, counts, tau), logits, labels, _ADJUSTMENTS)


def apply_tau_norm(logits: Tensor, classifier: nn.Linear, tau: float) -> Tensor:
    """Return the logits of a linear classifier with rows w_k / ||w_k||^tau and no bias.

    Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020. As
    there, the bias is dropped: it was learnt together with the original rows and holds a part of the prior that
    is to be removed. So tau = 0 is not exactly the classifier itself. Norms need not follow the class counts
    (under Adam they hardly do, Menon et al. 2021): then there is little to correct, and the fitted tau is near 0.

    Args:
        logits: the classifier's logits (N, C); the embeddings are not needed.
        classifier: linear layer with rows w (C, D).
        tau: 0 leaves the rows as they are, 1 makes them unit vectors.
    """
    import torch

    weight = classifier.weight.detach().to(logits)
    bias = 0.0 if classifier.bias is None else classifier.bias.detach().to(logits)
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return (logits - bias) / norms**tau


def fit_tau_norm(logits: Tensor, labels: Tensor, classifier: nn.Linear) -> float:
    """Return tau of ``apply_tau_norm``, from 0 to 1, for logits (N, C) with labels (N,) that were not trained on.

    Raises:
        ValueError: a class has no image.
    """
    return _fit_tau(lambda tau: apply_tau_norm(logits, classifier, tau), logits, labels, (0.0, 1.0))


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Return z / T: other probabilities, the same predictions.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    return logits / temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return T > 0 of ``apply_temperature`` by the negative log-likelihood of logits (N, C) with labels (N,).

    Raises:
        ValueError: a class has no image.
    """
    _class_counts(logits, labels)
    return _at_best_temperature(logits.double(), labels)[0]


def linear_classifier(head: nn.Module) -> nn.Linear | None:
    """Return a head's classifier where its logits are that linear layer of the embedding and nothing else."""
    import torch
    from torch import nn

    classifier = getattr(head, "classifier", None)
    if not isinstance(classifier, nn.Linear):
        return None
    probe = 2 * classifier.weight.detach()  # a head may take cosines of such a layer: those ignore the length
    try:
        with torch.no_grad():
            return classifier if torch.allclose(head(probe).logits, classifier(probe)) else None
    except RuntimeError:  # in a user's own head it may be a layer of something else than the embedding
        return None


def _fit_logit_adjustment(fit_on: Labelled, stats: ClassStats, _: nn.Module) -> dict[str, float]:
    return {"tau": fit_logit_adjustment(*fit_on, stats.counts)}


def _logit_adjustment(logits: Tensor, fitted: Mapping[str, float], stats: ClassStats, _: nn.Module) -> Tensor:
    return apply_logit_adjustment(logits, stats.counts, fitted["tau"])


def _fit_tau_norm(fit_on: Labelled, _: ClassStats, head: nn.Module) -> dict[str, float] | None:
    classifier = linear_classifier(head)
    return None if classifier is None else {"tau": fit_tau_norm(*fit_on, classifier)}


def _tau_norm(logits: Tensor, fitted: Mapping[str, float], _: ClassStats, head: nn.Module) -> Tensor:
    return apply_tau_norm(logits, cast("nn.Linear", linear_classifier(head)), fitted["tau"])


def _fit_temperature(fit_on: Labelled, _: ClassStats, __: nn.Module) -> dict[str, float]:
    return {"temperature": fit_temperature(*fit_on)}


def _temperature(logits: Tensor, fitted: Mapping[str, float], _: ClassStats, __: nn.Module) -> Tensor:
    return apply_temperature(logits, fitted["temperature"])


CORRECTIONS: dict[str, Correction] = {
    correction.name: correction
    for correction in (
        Correction(
            "logit_adjustment", "logit adjustment", "macro_recall", _fit_logit_adjustment, _logit_adjustment
        ),
        Correction("tau_norm", "tau-norm", "macro_recall", _fit_tau_norm, _tau_norm),
        Correction("temperature", "temperature", "ece", _fit_temperature, _temperature),
    )
}
"""The corrections of a result by name, in the order in which they are shown."""


def corrected(fit_on: Labelled, logits: Tensor, stats: ClassStats, head: nn.Module) -> dict[str, Corrected]:
    """Return the logits after each correction, fitted on one set of images and applied to another.

    Args:
        fit_on: logits and labels of the minival.
        logits: logits of the test set (N, C).
        stats: the classes and their training images.
        head: the head that computed the logits; without a ``linear_classifier`` there is no ``tau_norm``.

    Raises:
        ValueError: a class has no image in the minival, or none in training.
    """
    found = {name: correction.fit(fit_on, stats, head) for name, correction in CORRECTIONS.items()}
    return {
        name: Corrected(fitted, CORRECTIONS[name].apply(logits, fitted, stats, head))
        for name, fitted in found.items()
        if fitted is not None
    }

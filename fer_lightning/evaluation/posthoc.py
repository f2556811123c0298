"""Corrections of a trained classifier's logits: no training, one number each, fitted on pictures held out of it.

All take logits (N, C) and give logits (N, C). They are fitted on the minival, never on the test set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats
from fer_lightning.evaluation.names import Correction

Labelled = tuple[Tensor, Tensor]
"""Logits (N, C) and class indices (N,) of the same pictures."""

_TEMPERATURES = (1e-3, 1e3)
_ADJUSTMENTS = (-5.0, 25.0)  # wide: tau grows with the logits, and falls below 0 where a loss overdid the rare


def _class_counts(logits: Tensor, labels: Tensor) -> Tensor:
    """Images a class (C,); ValueError where one has none."""
    counts = torch.bincount(labels, minlength=logits.shape[1])
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no image to fit a correction on")
    return counts


def _at_best_temperature(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> tuple[float, float]:
    """The T > 0 with the least cross-entropy of logits / T, and that cross-entropy; weight: of a class (C,)."""

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels, weight).item()

    low, high = map(math.log, _TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return math.exp(found.x), found.fun


def _fit_tau(
    correct: Callable[[float], Tensor], logits: Tensor, labels: Tensor, bounds: tuple[float, float]
) -> float:
    """The tau whose corrected logits have the least class-balanced cross-entropy, each at its best temperature."""
    # Not by the macro recall: with ten images of a rare class it is a staircase, whose best step is chance. Not
    # without the temperature: tau would then make up for over-confidence too, while arg-max knows no scale.
    weight = 1 / _class_counts(logits, labels).double()

    def loss(tau: float) -> float:
        return _at_best_temperature(correct(tau).double(), labels, weight)[1]

    return float(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def apply_logit_adjustment(logits: Tensor, counts: Sequence[int], tau: float) -> Tensor:
    """z - tau log pi, with pi the classes' shares of the training part.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 9. Calibrated logits of a plain
    softmax classifier want tau = 1.

    Args:
        logits: z (N, C).
        counts: training images a class (C,).
        tau: how much of the prior is taken away; 0 changes nothing.

    Raises:
        ValueError: a class has no training image.
    """
    if min(counts) <= 0:
        raise ValueError(f"class {counts.index(min(counts))} has no training image")
    numbers = torch.tensor(counts, dtype=logits.dtype)
    return logits - tau * (numbers / numbers.sum()).log()


def fit_logit_adjustment(logits: Tensor, labels: Tensor, counts: Sequence[int]) -> float:
    """tau of ``apply_logit_adjustment`` for logits (N, C) with labels (N,) that were not trained on.

    Where all counts are equal, every tau is as good as another.

    Raises:
        ValueError: a class has no image here, or none in training.
    """
    return _fit_tau(lambda tau: apply_logit_adjustment(logits, counts, tau), logits, labels, _ADJUSTMENTS)


def apply_tau_norm(logits: Tensor, classifier: nn.Linear, tau: float) -> Tensor:
    """Logits of a linear classifier with rows w_k / ||w_k||^tau and no bias.

    Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020. As
    there, the bias is dropped: it was learnt beside the old rows, and holds some of the prior that is to be
    undone. So tau = 0 is not quite the classifier itself. Norms need not follow the class counts (under Adam they
    hardly do, Menon et al. 2021): then there is little to mend, and tau comes out near 0.

    Args:
        logits: (N, C), as the classifier gave them; the embeddings are not needed.
        classifier: with rows w (C, D).
        tau: 0 leaves the rows as they are, 1 makes them unit vectors.
    """
    weight = classifier.weight.detach().to(logits)
    bias = 0.0 if classifier.bias is None else classifier.bias.detach().to(logits)
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return (logits - bias) / norms**tau


def fit_tau_norm(logits: Tensor, labels: Tensor, classifier: nn.Linear) -> float:
    """tau of ``apply_tau_norm``, from 0 to 1, for logits (N, C) with labels (N,) that were not trained on.

    Raises:
        ValueError: a class has no image.
    """
    return _fit_tau(lambda tau: apply_tau_norm(logits, classifier, tau), logits, labels, (0.0, 1.0))


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """z / T: other probabilities, the same predictions.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    return logits / temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """T > 0 of ``apply_temperature`` by the negative log-likelihood of logits (N, C) with labels (N,).

    Raises:
        ValueError: a class has no image.
    """
    _class_counts(logits, labels)
    return _at_best_temperature(logits.double(), labels)[0]


def linear_classifier(head: nn.Module) -> nn.Linear | None:
    """A head's classifier, where its logits are that linear layer of the embedding and nothing else."""
    classifier = getattr(head, "classifier", None)
    if not isinstance(classifier, nn.Linear):
        return None
    probe = 2 * classifier.weight.detach()  # a head may keep such a layer and take cosines: those know no length
    try:
        with torch.no_grad():
            return classifier if torch.allclose(head(probe).logits, classifier(probe)) else None
    except RuntimeError:  # a user's own head, where it is a layer of something else than the embedding
        return None


class Corrected(NamedTuple):
    """A correction's fitted number by its name, ``tau`` or ``temperature``, and the corrected logits (N, C)."""

    fitted: dict[str, float]
    logits: Tensor


def corrected(fit_on: Labelled, logits: Tensor, stats: ClassStats, head: nn.Module) -> dict[Correction, Corrected]:
    """Logits after each correction, fitted on one set of pictures and applied to another.

    Args:
        fit_on: logits and labels of the minival.
        logits: of the test set (N, C).
        stats: the classes and their training images.
        head: what made the logits; without a ``linear_classifier`` there is no ``tau_norm``.

    Raises:
        ValueError: a class has no image in the minival, or none in training.
    """
    tau = fit_logit_adjustment(*fit_on, stats.counts)
    found: dict[Correction, Corrected] = {
        "logit_adjustment": Corrected({"tau": tau}, apply_logit_adjustment(logits, stats.counts, tau))
    }
    if classifier := linear_classifier(head):
        tau = fit_tau_norm(*fit_on, classifier)
        found["tau_norm"] = Corrected({"tau": tau}, apply_tau_norm(logits, classifier, tau))
    temperature = fit_temperature(*fit_on)
    found["temperature"] = Corrected({"temperature": temperature}, apply_temperature(logits, temperature))
    return found

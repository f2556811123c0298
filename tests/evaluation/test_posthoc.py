"""Post-hoc corrections: what they leave alone, what they find where the truth is known, what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats, HeadOutput
from fer_lightning.evaluation import posthoc
from fer_lightning.losses.softmax import SoftmaxHead
from fer_lightning.run import final_test

COUNTS = (600, 300, 80, 20)
PRIOR = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
STATS = ClassStats(("a", "b", "c", "d"), COUNTS)
FITS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "logit_adjustment": lambda logits, labels: posthoc.fit_logit_adjustment(logits, labels, COUNTS),
    "tau_norm": lambda logits, labels: posthoc.fit_tau_norm(logits, labels, nn.Linear(5, 4)),
    "temperature": posthoc.fit_temperature,
}


def bayes(number: int, seed: int = 0) -> posthoc.Labelled:
    """log p(k | x) + const of draws from four Gaussians, mixed as PRIOR says, and the draws' labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(PRIOR, number, replacement=True, generator=generator)
    means = 1.2 * torch.eye(4, dtype=torch.float64)
    points = means[labels] + torch.randn(number, 4, dtype=torch.float64, generator=generator)
    return PRIOR.log() - 0.5 * torch.cdist(points, means).square(), labels


def around_unit_vectors() -> posthoc.Labelled:
    """3,000 points (N, 4) around the unit vector of their class, the rarest class seen as often as PRIOR says."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.multinomial(PRIOR, 3_000, replacement=True, generator=generator)
    return F.one_hot(labels, 4) + torch.randn(3_000, 4, dtype=torch.float64, generator=generator), labels


def stretched(norms: Tensor) -> nn.Linear:
    """A classifier with the unit vectors for rows, stretched to these norms, and a bias that is of no use."""
    classifier = nn.Linear(4, 4).double()
    with torch.no_grad():
        classifier.weight.copy_(norms.diag())
    return classifier


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (200,), generator=generator)
    size = float(torch.rand((), generator=generator)) * 20
    return size * torch.randn(200, 4, generator=generator) + 3 * F.one_hot(labels, 4), labels


@pytest.mark.parametrize("seed", range(30))
def test_temperature_leaves_every_prediction(seed: int) -> None:
    logits, labels = drawn(seed)
    temperature = posthoc.fit_temperature(logits, labels)
    assert temperature > 0
    assert torch.equal(posthoc.apply_temperature(logits, temperature).argmax(1), logits.argmax(1))


@pytest.mark.parametrize("seed", range(10))
def test_logit_adjustment_leaves_the_order_within_a_class(seed: int) -> None:
    logits = drawn(seed)[0].double()
    adjusted = posthoc.apply_logit_adjustment(logits, COUNTS, 1.5)
    assert torch.equal(adjusted.argsort(0), logits.argsort(0))
    assert not torch.equal(adjusted.argmax(1), logits.argmax(1))


def test_logit_adjustment_takes_the_prior_away() -> None:
    adjusted = posthoc.apply_logit_adjustment(PRIOR.log().expand(2, 4), COUNTS, 1.0)
    assert torch.allclose(adjusted.softmax(1), torch.full((2, 4), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1.0, 3.0, 0.2])
def test_bayes_logits_want_the_whole_prior_away_at_any_scale(scale: float) -> None:
    logits, labels = bayes(20_000)
    assert posthoc.fit_logit_adjustment(scale * logits, labels, COUNTS) == pytest.approx(scale, rel=0.05)


def test_the_adjusted_bayes_classifier_is_the_best_on_balanced_pictures() -> None:
    logits, labels = bayes(20_000)
    tau = posthoc.fit_logit_adjustment(logits, labels, COUNTS)
    test, truth = bayes(20_000, seed=1)

    def macro_recall(values: Tensor) -> float:
        return float(np.mean([(values.argmax(1)[truth == k] == k).double().mean() for k in range(4)]))

    best = macro_recall(test - PRIOR.log())
    assert macro_recall(posthoc.apply_logit_adjustment(test, COUNTS, tau)) == pytest.approx(best, abs=0.01)
    assert macro_recall(test) < best - 0.1


def test_tripled_logits_have_temperature_three() -> None:
    logits, labels = bayes(20_000)
    assert posthoc.fit_temperature(3 * logits, labels) == pytest.approx(3.0, rel=0.05)
    assert torch.allclose(posthoc.apply_temperature(3 * logits, 3.0), logits)


def test_tau_zero_leaves_a_classifier_without_bias() -> None:
    classifier = nn.Linear(5, 4, bias=False).double()
    logits = classifier(torch.randn(50, 5, dtype=torch.float64)).detach()
    assert torch.equal(posthoc.apply_tau_norm(logits, classifier, 0.0), logits)


def test_tau_one_makes_unit_rows_without_bias() -> None:
    classifier = nn.Linear(5, 4).double()
    logits = classifier(torch.eye(5, dtype=torch.float64)).detach()
    rows = posthoc.apply_tau_norm(logits, classifier, 1.0).T
    assert torch.allclose(rows.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(rows, F.normalize(classifier.weight.detach()))


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_tau_norm_undoes_rows_that_grew_with_the_counts(scale: float) -> None:
    """Gaussian classes around the unit vectors want unit rows, whatever the scale of the embeddings."""
    classifier, (points, labels) = stretched(PRIOR.sqrt()), around_unit_vectors()
    logits = classifier(scale * points).detach()
    assert posthoc.fit_tau_norm(logits, labels, classifier) > 0.95


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_tau_norm_equals_a_slow_search(scale: float) -> None:
    """Norms that differ for no good reason but in part: a grid over tau and temperature, class by class."""
    classifier, (points, labels) = stretched(torch.tensor([1.0, 3.0, 2.0, 2.0])), around_unit_vectors()
    points = points * torch.tensor([1.0, 0.7, 1.2, 0.9])
    logits = classifier(scale * points).detach().numpy()
    norms, truth = classifier.weight.detach().norm(dim=1).numpy(), labels.numpy()

    def loss(tau: float, temperature: float) -> float:
        scores = (logits - classifier.bias.detach().numpy()) / norms**tau / temperature
        powers = np.exp(scores)
        own = -np.log(powers[np.arange(len(truth)), truth] / powers.sum(1))
        return float(np.mean([own[truth == k].mean() for k in range(4)]))

    grid = np.linspace(0, 1, 26)
    slow = min(grid, key=lambda tau: min(loss(tau, t) for t in scale * np.geomspace(0.2, 5, 30)))
    assert 0.1 < slow < 0.9
    assert posthoc.fit_tau_norm(torch.from_numpy(logits), labels, classifier) == pytest.approx(slow, abs=0.06)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_without_a_class_is_refused(name: str) -> None:
    logits, labels = bayes(2_000)
    with pytest.raises(ValueError, match="class 3 has no image"):
        FITS[name](logits[labels < 3], labels[labels < 3])


def test_a_class_without_training_images_has_no_prior() -> None:
    with pytest.raises(ValueError, match="class 2 has no training image"):
        posthoc.apply_logit_adjustment(torch.zeros(1, 4), (5, 1, 0, 1), 1.0)


def test_each_correction_is_what_was_fitted_applied() -> None:
    fit_on, (logits, _) = bayes(2_000), bayes(500, seed=1)
    head = SoftmaxHead(5, STATS)
    found = posthoc.corrected(fit_on, logits, STATS, head)
    tau, temperature = posthoc.fit_logit_adjustment(*fit_on, COUNTS), posthoc.fit_temperature(*fit_on)
    norm = posthoc.fit_tau_norm(*fit_on, head.classifier)
    expected = {
        "logit_adjustment": ({"tau": tau}, posthoc.apply_logit_adjustment(logits, COUNTS, tau)),
        "tau_norm": ({"tau": norm}, posthoc.apply_tau_norm(logits, head.classifier, norm)),
        "temperature": ({"temperature": temperature}, posthoc.apply_temperature(logits, temperature)),
    }
    assert found.keys() == expected.keys()
    for name, (fitted, corrected) in found.items():
        assert fitted == expected[name][0]
        assert torch.equal(corrected, expected[name][1])


def test_the_test_set_does_not_move_what_is_fitted() -> None:
    head, (logits, _) = SoftmaxHead(5, STATS), bayes(500, seed=1)

    def fitted(test: Tensor) -> list[dict[str, float]]:
        return [one.fitted for one in posthoc.corrected(bayes(2_000), test, STATS, head).values()]

    assert fitted(logits) == fitted(logits.flip(0) * 2)


class Cosine(SoftmaxHead):
    """Keeps a linear layer, but takes the cosines of its rows and the embeddings."""

    def __init__(self) -> None:
        super().__init__(5, STATS)
        nn.init.zeros_(self.classifier.bias)
        nn.init.orthogonal_(self.classifier.weight)  # unit rows: at these alone, cosines are the layer's logits

    def forward(self, features: Tensor, labels: Tensor | None = None) -> HeadOutput:
        return HeadOutput(F.linear(F.normalize(features), F.normalize(self.classifier.weight)))


class Pairs(SoftmaxHead):
    """Its linear layer takes the embedding twice."""

    def __init__(self) -> None:
        super().__init__(10, STATS)

    def logits(self, features: Tensor) -> Tensor:
        return super().logits(torch.cat([features, features], 1))


def test_only_a_plain_linear_layer_can_be_normed() -> None:
    plain = SoftmaxHead(5, STATS)
    assert posthoc.linear_classifier(plain) is plain.classifier
    assert posthoc.linear_classifier(Cosine()) is None
    assert posthoc.linear_classifier(Pairs()) is None
    assert posthoc.linear_classifier(nn.Identity()) is None
    assert "tau_norm" not in posthoc.corrected(bayes(500), bayes(500)[0], STATS, Cosine())


def setup(labels: list[int], protocol: dict[str, str]) -> Any:
    return SimpleNamespace(
        data=SimpleNamespace(labels=lambda part: np.array(labels)), stats=STATS, protocol=protocol
    )


def test_no_columns_but_a_notice_where_there_is_nothing_to_fit_on() -> None:
    made = {"faces": "f", "minival": "m"}
    model: Any = SimpleNamespace(card={"protocol": made})
    columns, (notice,) = final_test.corrected(model, setup([0, 1, 2], made), torch.zeros(3, 4))
    assert not columns
    assert "no picture of d" in notice
    columns, (notice,) = final_test.corrected(
        model, setup([0, 1, 2, 3], {**made, "minival": "n"}), torch.zeros(3, 4)
    )
    assert not columns
    assert "not the one that the checkpoint was chosen by" in notice

"""Metrics as functions of a confusion matrix, and their derivatives."""

import numpy as np
import pytest
import torch

from fer_lightning.evaluation.metrics import METRICS, evaluate
from fer_lightning.tables.analysis.predictions import confusions, gradient

OF_CONFUSION = {name: metric.of_confusion for name, metric in METRICS.items() if metric.of_confusion}
RANDOM = np.random.default_rng(3)
COUNTS = [
    RANDOM.integers(1, 40, (8, 8)),
    np.diag([30, 20, 16]) + 1,
    np.array([[0, 5, 5], [0, 40, 2], [0, 3, 9]]),  # a class that is never predicted
    np.array([[30, 2, 1], [4, 20, 3], [0, 0, 0]]),  # a class without pictures, that is predicted
]


def of_result(counts):
    """The metrics of predictions that make this confusion matrix, as a result has them."""
    labels = np.repeat(np.arange(len(counts)), counts.sum(1))
    predictions = np.concatenate([np.repeat(np.arange(len(counts)), row) for row in counts])
    probabilities = torch.eye(len(counts))[torch.from_numpy(predictions)]
    return evaluate(probabilities, torch.from_numpy(labels), tuple(map(str, range(len(counts)))))["metrics"]


@pytest.mark.parametrize("counts", COUNTS)
def test_metrics_are_those_of_a_result(counts):
    expected = of_result(counts)
    for name, metric in OF_CONFUSION.items():
        assert float(metric(counts)) == pytest.approx(expected[name], abs=1e-6), name


@pytest.mark.parametrize("name", OF_CONFUSION)
@pytest.mark.parametrize("counts", COUNTS[:3])
def test_derivatives_are_finite_differences(name, counts):
    step, metric = 1e-4, OF_CONFUSION[name]
    expected = np.empty(counts.shape)
    for place in np.ndindex(*counts.shape):
        moved = np.zeros(counts.shape)
        moved[place] = step
        expected[place] = (metric(counts + moved) - metric(counts - moved)) / (2 * step)
    assert gradient(metric, counts) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_derivatives_in_closed_form():
    counts = COUNTS[0].astype(float)
    sizes, eye = counts.sum(1), np.eye(8)
    recall = np.diag(counts) / sizes
    assert gradient(OF_CONFUSION["macro_recall"], counts) == pytest.approx(
        (eye - recall[:, None]) / sizes[:, None] / 8
    )
    total = counts.sum()
    assert gradient(OF_CONFUSION["accuracy"], counts) == pytest.approx((eye - np.trace(counts) / total) / total)
    f1 = 2 * np.diag(counts) / (sizes + counts.sum(0))
    below = sizes + counts.sum(0)
    by_hand = (2 * eye - f1[:, None]) / below[:, None] - (f1 / below)[None, :]
    assert gradient(OF_CONFUSION["macro_f1"], counts) == pytest.approx(by_hand / 8)


def test_confusions_are_counted():
    labels, predictions = np.array([0, 0, 1, 2]), np.array([[0, 1, 1, 0], [0, 0, 1, 2]])
    first, second = confusions(labels, predictions, 3)
    assert first.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert second.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 1]]

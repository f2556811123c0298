"""The metrics of a result against scikit-learn and, for calibration error and alpha, against plain loops."""

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk

from fer_lightning.evaluation.metrics import METRICS, evaluate, krippendorff_alpha

CLASSES = ("a", "b", "c", "d")
Case = tuple[NDArray[np.float64], NDArray[np.int64]]


def draw(labels: NDArray[np.int64], skill: float) -> Case:
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(len(labels), len(CLASSES)))
    logits[np.arange(len(labels)), labels] += skill
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True), labels


def cases() -> dict[str, Case]:
    labels = np.random.default_rng(6).choice(4, 300, p=[0.5, 0.3, 0.15, 0.05])
    return {
        "random": draw(labels, 0.0),
        "skilled": draw(labels, 1.5),
        "perfect": draw(labels, 20.0),
        "class b missing": draw(np.where(labels == 1, 0, labels), 1.0),
        "last class missing": draw(np.where(labels == 3, 0, labels), 1.0),
    }


CASES = cases()


def found(name: str) -> dict[str, Any]:
    probabilities, labels = CASES[name]
    return evaluate(torch.from_numpy(probabilities), torch.from_numpy(labels), CLASSES)


def by_scikit_learn(name: str) -> dict[str, float]:
    probabilities, labels = CASES[name]
    predictions, present = probabilities.argmax(1), np.unique(labels)
    one_versus_rest = [(labels == k, probabilities[:, k]) for k in present]
    return {
        "accuracy": sk.accuracy_score(labels, predictions),
        "macro_recall": sk.recall_score(labels, predictions, labels=present, average="macro"),
        "macro_f1": sk.f1_score(labels, predictions, labels=present, average="macro"),
        "cohen_kappa": sk.cohen_kappa_score(labels, predictions),
        "auroc": np.mean([sk.roc_auc_score(own, score) for own, score in one_versus_rest]),
        "average_precision": np.mean([sk.average_precision_score(own, score) for own, score in one_versus_rest]),
    }


def slow_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    error = 0.0
    for b in range(15):
        hits, confidences = [], []
        for row, label in zip(probabilities, labels, strict=True):
            top = int(np.argmax(row))
            if b / 15 < row[top] <= (b + 1) / 15:
                hits.append(float(top == label))
                confidences.append(float(row[top]))
        if hits:
            error += abs(sum(hits) - sum(confidences)) / len(labels)
    return error


def slow_alpha(units: list[tuple[int, int]]) -> float:
    """Two values a unit: disagreement among a unit's pairs over disagreement among all pairs of values."""
    values = [value for unit in units for value in unit]
    observed = sum(a != b for a, b in units) / len(units)
    pairs = [a != b for a, b in permutations(values, 2)]
    return 1 - observed / (sum(pairs) / len(pairs))


@pytest.mark.parametrize("metric", [name for name in METRICS if name not in ("krippendorff_alpha", "ece")])
@pytest.mark.parametrize("name", CASES)
def test_a_metric_equals_scikit_learn(name: str, metric: str) -> None:
    assert found(name)["metrics"][metric] == pytest.approx(by_scikit_learn(name)[metric], abs=1e-6)


@pytest.mark.parametrize("name", ["random", "skilled", "perfect"])
def test_macro_recall_is_balanced_accuracy_where_all_classes_occur(name: str) -> None:
    probabilities, labels = CASES[name]
    expected = sk.balanced_accuracy_score(labels, probabilities.argmax(1))
    assert found(name)["metrics"]["macro_recall"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_calibration_error_equals_the_loop(name: str) -> None:
    assert found(name)["metrics"]["ece"] == pytest.approx(slow_calibration_error(*CASES[name]), abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_alpha_equals_the_textbook(name: str) -> None:
    probabilities, labels = CASES[name]
    units = list(zip(labels.tolist(), probabilities.argmax(1).tolist(), strict=True))
    assert found(name)["metrics"]["krippendorff_alpha"] == pytest.approx(slow_alpha(units), abs=1e-9)


def test_alpha_of_the_textbooks_two_coder_example() -> None:
    """Krippendorff 2011, part A: ten units, two coders, values 0 and 1: alpha = 0.095."""
    assert krippendorff_alpha(np.array([[5, 1], [3, 1]])) == pytest.approx(0.095, abs=5e-4)


def test_alpha_where_one_class_occurs_is_not_a_number() -> None:
    labels = torch.zeros(7, dtype=torch.int64)
    assert math.isnan(evaluate(torch.eye(2)[labels], labels, ("a", "b"))["metrics"]["krippendorff_alpha"])


def test_perfect_predictions_score_one() -> None:
    metrics = found("perfect")["metrics"]
    assert {name: value for name, value in metrics.items() if name != "ece"} == pytest.approx(
        {name: 1.0 for name in METRICS if name != "ece"}
    )


@pytest.mark.parametrize("name", CASES)
def test_per_class_recall_equals_scikit_learn_and_is_none_where_a_class_is_missing(name: str) -> None:
    probabilities, labels = CASES[name]
    recalls = found(name)["per_class_recall"]
    assert tuple(recalls) == CLASSES
    for k, (_, value) in enumerate(recalls.items()):
        if k in labels:
            assert value == pytest.approx(np.mean(probabilities.argmax(1)[labels == k] == k), abs=1e-6)
        else:
            assert value is None


@pytest.mark.parametrize("name", CASES)
def test_confusion_equals_scikit_learn_and_counts_each_picture_once(name: str) -> None:
    probabilities, labels = CASES[name]
    confusion = found(name)["confusion"]
    assert confusion == sk.confusion_matrix(labels, probabilities.argmax(1), labels=range(4)).tolist()
    assert sum(map(sum, confusion)) == len(labels)


def test_rows_of_the_confusion_are_true_classes() -> None:
    one_hot = torch.eye(4, dtype=torch.float64)
    result = evaluate(one_hot[[2, 2, 1]], torch.tensor([0, 0, 1]), CLASSES)
    assert result["confusion"] == [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_all_named_metrics_are_there_as_plain_floats() -> None:
    metrics = found("random")["metrics"]
    assert tuple(metrics) == tuple(METRICS)
    assert all(type(value) is float for value in metrics.values())


def test_float32_probabilities_give_the_same_numbers() -> None:
    probabilities, labels = CASES["skilled"]
    single = evaluate(torch.from_numpy(probabilities).float(), torch.from_numpy(labels), CLASSES)
    assert single["metrics"] == pytest.approx(found("skilled")["metrics"], abs=1e-5)

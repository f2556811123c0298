"""Class weights against numbers computed by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fer_lightning.config.compose import compose
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError
from fer_lightning.run import build_loss
from fer_lightning.run.check_config import check
from fer_lightning.training import class_weights

AFFECTNET = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)


def by_hand(counts: Any) -> Tensor:
    names = [f"class {k}" for k in range(len(counts))]
    return class_weights.manual(counts, names, {name: 0.5 + k for k, name in enumerate(names)})


SCHEMES: dict[str, Callable[[Any], Tensor]] = {
    name: by_hand if name == "manual" else getattr(class_weights, name) for name in groups()["class_weights"]
}


def ratio(weights: Tensor) -> float:
    return float(weights.max() / weights.min())


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("none", [1.0, 1.0, 1.0]),
        ("min_over_count", [1 / 4, 1 / 2, 1.0]),  # 10/40, 10/20, 10/10
        ("inverse", [70 / 120, 70 / 60, 70 / 30]),  # N = 70, C = 3
        ("sqrt_inverse", [math.sqrt(70 / 120), math.sqrt(70 / 60), math.sqrt(70 / 30)]),
    ],
)
def test_a_scheme_gives_the_numbers_of_its_formula(scheme: str, expected: list[float]) -> None:
    assert SCHEMES[scheme]((40, 20, 10)).tolist() == pytest.approx(expected, rel=1e-6)


def test_effective_number_gives_the_numbers_of_its_formula() -> None:
    raw = [1 / (1 + 0.5), 1 / (1 + 0.5 + 0.25)]  # effective number of n: 1 + b + ... + b^(n-1)
    expected = [2 * value / sum(raw) for value in raw]
    assert class_weights.effective_number((2, 3), beta=0.5).tolist() == pytest.approx(expected, rel=1e-6)


def test_effective_number_of_beta_zero_is_none() -> None:
    assert class_weights.effective_number((40, 20, 10), beta=0.0).tolist() == pytest.approx([1, 1, 1])


def test_affectnet_min_over_count_has_the_published_digits() -> None:
    expected = [0.0501, 0.0279, 0.1473, 0.2661, 0.5880, 0.9861, 0.1507, 1.0]
    assert class_weights.min_over_count(AFFECTNET).tolist() == pytest.approx(expected, abs=5e-5)


def test_affectnet_min_over_count_cuts_the_learning_rate_tenfold() -> None:
    weights = class_weights.min_over_count(AFFECTNET).tolist()
    expected = sum(n * w for n, w in zip(AFFECTNET, weights, strict=True)) / sum(AFFECTNET)
    assert expected == pytest.approx(0.104, abs=5e-4)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (class_weights.effective_number(AFFECTNET, beta=0.999), 1.02),
        (class_weights.effective_number(AFFECTNET, beta=0.9999), 3.2),
        (class_weights.inverse(AFFECTNET), 35.8),
        (class_weights.sqrt_inverse(AFFECTNET), 6.0),
    ],
)
def test_affectnet_largest_over_smallest_weight(weights: Tensor, expected: float) -> None:
    assert ratio(weights) == pytest.approx(expected, abs=0.5 * 10 ** -len(str(expected).partition(".")[2]))


@pytest.mark.parametrize("counts", [(40, 20, 10), AFFECTNET, (7,)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_expected_one_makes_the_mean_over_the_images_one(scheme: str, counts: tuple[int, ...]) -> None:
    weights = SCHEMES[scheme](counts)
    scaled = class_weights.normalise(weights, counts, "expected_one").tolist()
    images = [weight for weight, n in zip(scaled, counts, strict=True) for _ in range(n)]
    assert math.fsum(images) / len(images) == pytest.approx(1, rel=1e-5)
    assert scaled[0] * float(weights[-1]) == pytest.approx(scaled[-1] * float(weights[0]), rel=1e-5)


def test_as_is_leaves_the_weights_alone() -> None:
    weights = torch.tensor([0.25, 0.5, 1.0])
    assert torch.equal(class_weights.normalise(weights, (40, 20, 10), "as_is"), weights)


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="sum_one"):
        class_weights.normalise(torch.ones(2), (1, 1), "sum_one")  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_class_without_images_is_refused(scheme: str) -> None:
    with pytest.raises(ValueError, match=r"\[3, 0, 1\]"):
        SCHEMES[scheme]((3, 0, 1))


@pytest.mark.parametrize("counts", [(), ((1, 2), (3, 4))])
def test_counts_that_are_no_list_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match="counts"):
        class_weights.inverse(counts)


@pytest.mark.parametrize("beta", [1.0, -0.1, 1.5])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=f"beta .*{beta}"):
        class_weights.effective_number((1, 2), beta=beta)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_computed_in_float64_and_come_in_the_default_type(scheme: str) -> None:
    weights = SCHEMES[scheme](torch.tensor([40, 20, 10]))
    assert weights.dtype == torch.get_default_dtype()
    assert weights.shape == (3,)


def test_weights_by_hand_go_by_name() -> None:
    weights = class_weights.manual((40, 20), ("happy", "sad"), {"sad": 2, "happy": 0.3})
    assert weights.tolist() == pytest.approx([0.3, 2.0])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (None, r"^weights must name every class of data.classes; missing: happy, sad"),
        ({"happy": 1}, "missing: sad"),
        ({"happy": 1, "sad": 2, "hapy": 3}, r"no class: hapy \(did you mean happy\?\)"),
        ({"happy": 1, "sad": 0}, r"weights\.sad must be a positive number, got 0"),
        ({"happy": float("nan"), "sad": 1}, r"weights\.happy must be a positive number"),
    ],
)
def test_weights_by_hand_that_are_refused(weights: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        class_weights.manual((40, 20), ("happy", "sad"), weights)


def test_weights_by_hand_from_the_command_line() -> None:
    words = ["class_weights=manual", "data.classes=[happy,sad]", "class_weights.normalise=as_is"]
    config = compose([*words, "class_weights.weights={happy: 0.3, sad: 1}"])
    check(config)
    assert build_loss.class_weights(config, build_loss.assumed_stats(config)).tolist() == pytest.approx([0.3, 1])
    with pytest.raises(UserError, match=r"^class_weights\.weights\.sad=-1: "):
        check(compose([*words, "class_weights.weights={happy: 0.3, sad: -1}"]))
    incomplete = compose([*words, "class_weights.weights={happy: 0.3}"])
    with pytest.raises(UserError, match=r"missing: sad"):
        build_loss.try_out(incomplete)

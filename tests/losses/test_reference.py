"""Softmax, center and cluster loss against plain loops over samples, classes and dimensions, in float64.

The gradients of the reference are derived by hand, those of the cluster loss's centers in closed form, so that
neither values nor gradients share anything with the code they check.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.softmax import SoftmaxHead

C, D = 4, 3
STATS = ClassStats(("a", "b", "c", "d"), (40, 30, 20, 10))
UPDATES = ("running", "exact", "gradient")
LAMBDA, DELTA, RATE = 0.7, 0.8, 0.4
HEADS = ("softmax", *(f"{kind}-{update}" for kind in ("center", "cluster") for update in UPDATES))
CENTER_HEADS = HEADS[1:]
LABELS = {
    "mixed": (0, 2, 1, 1, 3, 0, 2, 1, 3, 3, 0, 1),
    "one sample": (2,),
    "class 1 absent": (0, 0, 2, 3, 0, 2),
    "one class": (1, 1, 1),
}
WEIGHTS = {"none": (1.0, 1.0, 1.0, 1.0), "unequal": (0.25, 1 / 3, 0.5, 2.0)}

Array = NDArray[np.float64]


def make(name: str, **more: Any) -> SoftmaxHead:
    """A head by its name here, in float64, its centers drawn."""
    torch.manual_seed(1)
    kind, _, update = name.partition("-")
    if kind == "softmax":
        return SoftmaxHead(D, STATS, **more).double()
    how: dict[str, Any] = {"weight": LAMBDA, "center_update": update, "center_rate": RATE, **more}
    head = ClusterHead(D, STATS, **{"delta": DELTA, **how}) if kind == "cluster" else CenterHead(D, STATS, **how)
    head.double().init_centers(torch.randn(C, D, dtype=torch.float64))
    return head


def make_center(name: str, **more: Any) -> CenterTermHead:
    head = make(name, **more)
    assert isinstance(head, CenterTermHead)
    return head


def batch(labels: str = "mixed") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    y = torch.tensor(LABELS[labels])
    return torch.randn(len(y), D, dtype=torch.float64, generator=generator), y


def class_weights(name: str) -> Tensor:
    return torch.tensor(WEIGHTS[name], dtype=torch.float64)


def squared(a: Array, b: Array) -> float:
    return sum((float(a[d]) - float(b[d])) ** 2 for d in range(D))


def spreads(c: Array, delta: float) -> list[float]:
    return [sum(squared(c[j], c[k]) for j in range(C)) + delta for k in range(C)]


def slow_cross_entropy(x: Array, y: Array, matrix: Array, bias: Array, w: Array) -> dict[str, Array]:
    """Values (N,) and gradients of mean_i w[y_i] CE_i."""
    n = len(x)
    out = {"per_sample": np.zeros(n), "x": np.zeros((n, D)), "matrix": np.zeros((C, D)), "bias": np.zeros(C)}
    for i in range(n):
        z = [sum(float(matrix[k, d] * x[i, d]) for d in range(D)) + float(bias[k]) for k in range(C)]
        total = sum(math.exp(value) for value in z)
        out["per_sample"][i] = math.log(total) - z[y[i]]
        for k in range(C):
            slope = w[y[i]] / n * (math.exp(z[k]) / total - (1.0 if k == y[i] else 0.0))
            out["bias"][k] += slope
            for d in range(D):
                out["matrix"][k, d] += slope * x[i, d]
                out["x"][i, d] += slope * matrix[k, d]
    return out


def slow_center_term(x: Array, y: Array, c: Array, w: Array) -> dict[str, Array]:
    """Values (N,) of 1/2 ||x_i - c_{y_i}||^2 and gradients of their weighted mean."""
    n = len(x)
    out = {"per_sample": np.zeros(n), "x": np.zeros((n, D)), "centers": np.zeros((C, D))}
    for i in range(n):
        out["per_sample"][i] = squared(x[i], c[y[i]]) / 2
        for d in range(D):
            out["x"][i, d] = w[y[i]] / n * (x[i, d] - c[y[i], d])
            out["centers"][y[i], d] -= w[y[i]] / n * (x[i, d] - c[y[i], d])
    return out


def slow_cluster_term(x: Array, y: Array, c: Array, w: Array) -> dict[str, Array]:
    """The same for 1/2 ||x_i - c_{y_i}||^2 / D_{y_i}; the centers' gradient term by term as it is published."""
    n, spread = len(x), spreads(c, DELTA)
    out = {"per_sample": np.zeros(n), "x": np.zeros((n, D)), "centers": np.zeros((C, D))}
    for i in range(n):
        own = y[i]
        distance, scale = squared(x[i], c[own]), spread[own]
        out["per_sample"][i] = distance / scale / 2
        for d in range(D):
            out["x"][i, d] = w[own] / n * (x[i, d] - c[own, d]) / scale
        for m in range(C):
            for d in range(D):
                if m == own:
                    apart = sum(float(c[j, d] - c[m, d]) for j in range(C))
                    slope = (c[m, d] - x[i, d]) / scale + distance / scale**2 * apart
                else:
                    slope = -distance / scale**2 * (c[m, d] - c[own, d])
                out["centers"][m, d] += w[own] / n * slope
    return out


def slow_term(name: str, *arguments: Array) -> dict[str, Array]:
    return (slow_cluster_term if name.startswith("cluster") else slow_center_term)(*arguments)


def slow(name: str, head: SoftmaxHead, x: Tensor, y: Tensor, w: Tensor) -> dict[str, Array]:
    """The whole loss of a head: values (N,), and gradients of the weighted mean by what they are taken in."""
    xs, ys, ws = x.detach().numpy(), y.numpy(), w.numpy()
    matrix, bias = head.classifier.weight.detach().numpy(), head.classifier.bias.detach().numpy()
    out = slow_cross_entropy(xs, ys, matrix, bias, ws)
    if isinstance(head, CenterTermHead):
        term = slow_term(name, xs, ys, head.centers.detach().numpy(), ws)
        out = {key: value + LAMBDA * term.get(key, 0.0) for key, value in out.items()}
        out["centers"] = LAMBDA * term["centers"]
    return out


def slow_move(name: str, x: Tensor, y: Tensor, c: Tensor, w: Tensor) -> Array:
    """Where the centers are after one step."""
    xs, ys, cs, ws = x.numpy(), y.numpy(), c.detach().numpy().copy(), w.numpy()
    if not name.endswith("running"):
        gradient = slow_term(name, xs, ys, cs, ws)["centers"]
        return cs - RATE * gradient * (LAMBDA if name.endswith("gradient") else 1.0)
    moved = cs.copy()
    for k in range(C):
        members = [xs[i] for i in range(len(xs)) if ys[i] == k]
        for d in range(D):
            moved[k, d] += RATE * sum(float(m[d] - cs[k, d]) for m in members) / (1 + len(members))
    return moved


def close(value: Tensor, expected: Array) -> None:
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def weighted_mean(head: SoftmaxHead, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    output = head(x, y)
    return (w[y] * output.per_sample).mean() + output.penalty


def step(head: CenterTermHead, batches: list[tuple[Tensor, Tensor]], w: Tensor) -> None:
    """What the training loop does with the centers in one step of equally large micro-batches."""
    for x, y in batches:
        (weighted_mean(head, x, y, w) / len(batches)).backward()
        head.observe(x, y, w)
    head.after_step()


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", HEADS)
def test_per_sample_equals_the_loop(name: str, labels: str) -> None:
    head, (x, y) = make(name), batch(labels)
    close(head(x, y).per_sample, slow(name, head, x, y, class_weights("none"))["per_sample"])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", HEADS)
def test_gradients_of_the_weighted_mean_equal_the_hand_derived_ones(name: str, labels: str, weights: str) -> None:
    head, (x, y), w = make(name), batch(labels), class_weights(weights)
    x.requires_grad_()
    weighted_mean(head, x, y, w).backward()
    expected = slow(name, head, x, y, w)
    assert x.grad is not None
    assert head.classifier.weight.grad is not None
    assert head.classifier.bias.grad is not None
    close(x.grad, expected["x"])
    close(head.classifier.weight.grad, expected["matrix"])
    close(head.classifier.bias.grad, expected["bias"])
    if name.endswith("gradient"):
        assert isinstance(head, CenterTermHead)
        assert head.centers.grad is not None
        close(head.centers.grad, expected["centers"])


@pytest.mark.parametrize("name", HEADS)
def test_gradcheck(name: str) -> None:
    head, (x, y) = make(name), batch()
    names, values = zip(*head.named_parameters(), strict=True)

    def losses(features: Tensor, *parameters: Tensor) -> Tensor:
        replaced = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(head, replaced, (features, y)).per_sample

    inputs = (x.requires_grad_(), *(value.detach().clone().requires_grad_() for value in values))
    assert torch.autograd.gradcheck(losses, inputs)


@pytest.mark.parametrize("name", HEADS)
def test_the_terms_of_the_log_add_up_to_per_sample(name: str) -> None:
    output = make(name)(*batch())
    torch.testing.assert_close(sum(output.terms.values()), output.per_sample, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", CENTER_HEADS)
def test_centers_step_as_the_loop_does(name: str, labels: str, weights: str) -> None:
    head, (x, y), w = make_center(name), batch(labels), class_weights(weights)
    expected = slow_move(name, x, y, head.centers, w)
    step(head, [(x, y)], w)
    close(head.centers, expected)


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_micro_batches_and_one_step_are_one_big_batch(name: str) -> None:
    (x, y), w = batch(), class_weights("unequal")
    whole, parts = make_center(name), make_center(name)
    step(whole, [(x, y)], w)
    step(parts, [(x[i : i + 3], y[i : i + 3]) for i in range(0, 12, 3)], w)
    close(parts.centers, whole.centers.detach().numpy())


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_a_second_step_has_forgotten_the_first(name: str) -> None:
    (x, y), w = batch(), class_weights("unequal")
    head = make_center(name)
    step(head, [(x, y)], w)
    expected = slow_move(name, x[:5], y[:5], head.centers, w)
    step(head, [(x[:5], y[:5])], w)
    close(head.centers, expected)


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_from_equal_centers_each_center_moves_towards_its_features(name: str) -> None:
    (x, y), w = batch("class 1 absent"), class_weights("unequal")
    head = make_center(name)
    head.init_centers(torch.zeros(C, D, dtype=torch.float64))
    step(head, [(x, y)], w)
    for k in range(C):
        center, total = head.centers[k].detach(), x[y == k].sum(0)
        if k == 1:
            assert not center.any()
        else:
            assert torch.cosine_similarity(center, total, dim=0) > 1 - 1e-12


def test_exact_pushes_the_absent_class_away_and_running_does_not() -> None:
    (x, y), w = batch("class 1 absent"), class_weights("none")
    moved = {}
    for update in ("running", "exact"):
        head = make_center(f"cluster-{update}")
        before = head.centers.clone()
        step(head, [(x, y)], w)
        moved[update] = not torch.equal(head.centers[1], before[1])
    assert moved == {"running": False, "exact": True}


def test_exact_leaves_lambda_out_and_gradient_carries_it() -> None:
    moves = {}
    for update in ("exact", "gradient"):
        for weight in (0.5, 2.0):
            head = make_center(f"cluster-{update}", weight=weight)
            before = head.centers.detach().clone()
            step(head, [batch()], class_weights("unequal"))
            moves[update, weight] = (head.centers - before).detach()
    torch.testing.assert_close(moves["exact", 0.5], moves["exact", 2.0], rtol=0, atol=0)
    torch.testing.assert_close(moves["gradient", 0.5] * 4, moves["gradient", 2.0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CENTER_HEADS)
def test_centers_stay_in_forward_and_without_anything_observed(name: str, training: bool) -> None:
    head, (x, y) = make_center(name), batch()
    head.train(training)
    before = head.centers.detach().clone()
    head(x, y)
    head(x)
    head.after_step()
    assert torch.equal(head.centers, before)


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_new_centers_are_zero_and_init_puts_them_at_the_means(name: str) -> None:
    kind = ClusterHead if name.startswith("cluster") else CenterHead
    head = kind(D, STATS, center_update=name.partition("-")[2])
    assert not head.centers.any()
    means = torch.randn(C, D)
    head.init_centers(means)
    assert torch.equal(head.centers, means)


@pytest.mark.parametrize("name", CENTER_HEADS)
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_the_same_with_and_without_labels(name: str, training: bool) -> None:
    head, (x, y) = make(name).train(training), batch()
    assert torch.equal(head(x, y).logits, head(x).logits)


@pytest.mark.parametrize("name", HEADS)
def test_without_labels_there_is_no_loss(name: str) -> None:
    output = make(name)(batch()[0])
    assert output.per_sample is None
    assert output.terms == {}


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_with_weight_zero_it_is_softmax_to_the_last_bit(name: str) -> None:
    head, plain = make(name, weight=0.0), make("softmax")
    plain.load_state_dict({key: value for key, value in head.state_dict().items() if key != "centers"})
    (x, y), gradients = batch(), []
    for each in (head, plain):
        features = x.clone().requires_grad_()
        output = each(features, y)
        output.per_sample.sum().backward()
        gradients.append((output.per_sample, features.grad, each.classifier.weight.grad))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("name", HEADS)
def test_extreme_logits_give_finite_float32_losses(name: str, precision: str) -> None:
    dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32
    head = make(name).to(dtype)
    with torch.no_grad():
        head.classifier.weight.copy_(1e4 * torch.eye(C, D))
        head.classifier.bias.zero_()
    x, y = (
        torch.eye(D, dtype=dtype, requires_grad=True),
        torch.tensor([0, 2, 1]),
    )  # right, wrong by 1e4, wrong by 1e4
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        output = head(x, y)
    assert output.per_sample.dtype == torch.float32
    assert torch.isfinite(output.per_sample).all()
    torch.testing.assert_close(output.terms["cross_entropy"], torch.tensor([0.0, 1e4, 1e4]), rtol=4e-3, atol=0)
    output.per_sample.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_centers_step_in_float32_under_autocast(name: str) -> None:
    """Products under autocast are rounded to 8 bits, and what moves a center is a small difference of sums."""
    (x, y), w = batch(), class_weights("unequal").float()
    x = (x + 30).float()  # embeddings far from zero, close to their centers
    moved = []
    for autocast in (False, True):
        head = make_center(name).float()
        with torch.no_grad():
            head.centers += 30
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            step(head, [(x, y)], w)
        moved.append(head.centers.detach())
    torch.testing.assert_close(moved[1], moved[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (12, 1), (12, C), (11,)])
@pytest.mark.parametrize("name", HEADS)
def test_labels_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"label|batch_size"):
        make(name)(batch()[0], torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_centers_are_in_the_state_dict_and_a_parameter_only_for_gradient(name: str) -> None:
    head = make(name)
    assert set(head.state_dict()) == {"classifier.weight", "classifier.bias", "centers"}
    assert ("centers" in dict(head.named_parameters())) == name.endswith("gradient")
    assert ("centers" in dict(head.named_buffers())) == (not name.endswith("gradient"))


@pytest.mark.parametrize("name", CENTER_HEADS)
def test_a_state_dict_brings_the_centers_back(name: str) -> None:
    head, other = make_center(name), make_center(name)
    other.init_centers(torch.zeros(C, D, dtype=torch.float64))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.centers, head.centers)


@pytest.mark.parametrize("kind", [CenterHead, ClusterHead])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -0.5}, r"weight .*-0\.5"),
        ({"center_rate": 0.0}, r"center_rate .*0\.0"),
        ({"center_rate": 1.5}, r"center_rate .*1\.5"),
        ({"center_rate": -2.0, "center_update": "exact"}, r"center_rate .*-2\.0"),
        ({"center_update": "momentum"}, r"center_update .*momentum"),
    ],
)
def test_numbers_without_sense_are_refused_by_name(
    kind: type[CenterTermHead], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(D, STATS, **arguments)


@pytest.mark.parametrize("delta", [0.0, -1.5])
def test_a_delta_that_is_not_positive_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=rf"delta .*{delta}"):
        ClusterHead(D, STATS, delta=delta)


@pytest.mark.parametrize("update", ["exact", "gradient"])
def test_a_rate_above_one_is_allowed_where_it_is_a_learning_rate(update: str) -> None:
    assert make_center(f"cluster-{update}", center_rate=5.0).center_rate == 5.0


@pytest.mark.parametrize("shape", [(C - 1, D), (C, D + 1), (D,), (C * D,)])
def test_centers_refuse_means_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="class means"):
        make_center("cluster-running").init_centers(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_centers_refuse_means_that_are_not_finite(value: float) -> None:
    means = torch.zeros(C, D)
    means[2, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        make_center("cluster-running").init_centers(means)

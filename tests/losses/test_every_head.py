"""What is asked of every head in conf/loss/: values and gradients of a slow loop, and manners at the edges.

A head that is added there is enrolled by itself; without a reference in REFERENCES its tests fail.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments, target
from fer_lightning.config.shipped import groups
from fer_lightning.core.contracts import ClassStats
from fer_lightning.losses.arcface import ArcFaceHead
from fer_lightning.losses.balanced_softmax import BalancedSoftmaxHead
from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.contrastive_center import ContrastiveCenterHead
from fer_lightning.losses.cosine import CosineHead
from fer_lightning.losses.focal import FocalHead
from fer_lightning.losses.island import IslandHead
from fer_lightning.losses.ldam import LDAMHead
from fer_lightning.losses.logit_adjusted import LogitAdjustedHead
from fer_lightning.losses.softmax import SoftmaxHead

C, D = 4, 3
COUNTS = (40, 30, 20, 10)
STATS = ClassStats(("a", "b", "c", "d"), COUNTS)
NAMES = groups()["loss"]
CONFIGS = {name: compose([f"loss={name}"])["loss"] for name in NAMES}
WITH_CENTERS = [name for name in NAMES if issubclass(target("loss", CONFIGS[name]), CenterTermHead)]
UPDATES = ("running", "exact", "gradient")
LABELS = {
    "mixed": (0, 2, 1, 1, 3, 0, 2, 1, 3, 3, 0, 1),
    "one sample": (2,),
    "class 1 absent": (0, 0, 2, 3, 0, 2),
    "one class": (1, 1, 1),
}
WEIGHTS = torch.tensor([0.25, 1 / 3, 0.5, 2.0], dtype=torch.float64)

Row = list[Tensor]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(name: str, **more: Any) -> Any:
    """A head with its config's numbers and, where it has centers, drawn ones."""
    torch.manual_seed(1)
    head = target("loss", CONFIGS[name])(D, STATS, **{**arguments(CONFIGS[name]), **more})
    if isinstance(head, CenterTermHead):
        head.init_centers(torch.randn(C, D))
    return head


def batch(labels: str = "mixed") -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    y = torch.tensor(LABELS[labels])
    return torch.randn(len(y), D), y


# The references: one sample and one number at a time, from the papers' formulas.


def dot(a: Row, b: Row) -> Tensor:
    return sum((p * q for p, q in zip(a, b, strict=True)), torch.tensor(0.0))


def distance(a: Row, b: Row) -> Tensor:
    return sum(((p - q) ** 2 for p, q in zip(a, b, strict=True)), torch.tensor(0.0))


def linear(head: SoftmaxHead, x: Row) -> Row:
    rows = zip(head.classifier.weight, head.classifier.bias, strict=True)
    return [dot(list(row), x) + bias for row, bias in rows]


def cosines(head: SoftmaxHead, x: Row) -> Row:
    rows = [list(row) for row in head.classifier.weight]
    return [dot(row, x) / torch.sqrt(dot(row, row) * dot(x, x)) for row in rows]


def cross_entropy(z: Row, y: int) -> Tensor:
    return torch.log(sum((torch.exp(value) for value in z), torch.tensor(0.0))) - z[y]


def softmax(head: SoftmaxHead, x: Row, y: int) -> Tensor:
    return cross_entropy(linear(head, x), y)


def focal(head: FocalHead, x: Row, y: int) -> Tensor:
    own = torch.exp(-softmax(head, x, y))
    return -((1 - own) ** head.gamma) * torch.log(own)


def logit_adjusted(head: LogitAdjustedHead, x: Row, y: int) -> Tensor:
    shares = [head.tau * math.log(n / sum(COUNTS)) for n in COUNTS]
    return cross_entropy([z + share for z, share in zip(linear(head, x), shares, strict=True)], y)


def balanced_softmax(head: SoftmaxHead, x: Row, y: int) -> Tensor:
    terms = [n * torch.exp(z) for n, z in zip(COUNTS, linear(head, x), strict=True)]
    return -torch.log(terms[y] / sum(terms, torch.tensor(0.0)))


def ldam(head: LDAMHead, x: Row, y: int) -> Tensor:
    largest = max(1 / n**0.25 for n in COUNTS)
    z = cosines(head, x)
    z[y] = z[y] - head_number(head, "max_margin") / COUNTS[y] ** 0.25 / largest
    return cross_entropy([head.scale * value for value in z], y)


def arcface(head: ArcFaceHead, x: Row, y: int) -> Tensor:
    z = cosines(head, x)
    angle = torch.acos(z[y]) + head.margin
    z[y] = torch.cos(angle) if angle < math.pi else z[y] - head.margin * math.sin(head.margin)
    return cross_entropy([head.scale * value for value in z], y)


def head_number(head: SoftmaxHead, key: str) -> float:
    """A number of the config that the head keeps in another form."""
    (config,) = [config for config in CONFIGS.values() if target("loss", config) is type(head)]
    return float(config[key])


def center(head: Any, x: Row, y: int, c: list[Row]) -> Tensor:
    return distance(x, c[y]) / 2


def cluster(head: Any, x: Row, y: int, c: list[Row]) -> Tensor:
    spread = sum((distance(other, c[y]) for other in c), torch.tensor(0.0)) + head.delta
    return distance(x, c[y]) / spread / 2


def contrastive_center(head: Any, x: Row, y: int, c: list[Row]) -> Tensor:
    others = sum((distance(x, c[k]) for k in range(C) if k != y), torch.tensor(0.0))
    return distance(x, c[y]) / (others + head.delta) / 2


def affinity(head: Any, x: Row, y: int, c: list[Row]) -> Tensor:
    mean = [sum((c[k][d] for k in range(C)), torch.tensor(0.0)) / C for d in range(D)]
    variance = sum((distance(c[k], mean) for k in range(C)), torch.tensor(0.0)) / (C - 1)
    return distance(x, c[y]) / (variance + head.delta)


def sparse_center(head: Any, x: Row, y: int, c: list[Row]) -> Tensor:
    pairs = head.attend(head.context(torch.stack(x)[None]))[0]
    inside = [torch.exp(pairs[d]) / (torch.exp(pairs[d]) + torch.exp(pairs[D + d])) for d in range(D)]
    return sum((inside[d] * (x[d] - c[y][d]) ** 2 for d in range(D)), torch.tensor(0.0)) / 2


def no_penalty(head: Any, c: list[Row]) -> Tensor:
    return torch.tensor(0.0)


def island_penalty(head: Any, c: list[Row]) -> Tensor:
    pairs = [(c[j], c[k]) for j in range(C) for k in range(C) if j != k]
    return head.island_weight * sum(
        (dot(a, b) / torch.sqrt(dot(a, a) * dot(b, b)) + 1 for a, b in pairs), torch.tensor(0.0)
    )


PLAIN: dict[str, Callable[[Any, Row, int], Tensor]] = {
    "softmax": softmax,
    "focal": focal,
    "logit_adjusted": logit_adjusted,
    "balanced_softmax": balanced_softmax,
    "ldam": ldam,
    "arcface": arcface,
}
TERMS: dict[str, Callable[[Any, Row, int, list[Row]], Tensor]] = {
    "center": center,
    "island": center,
    "cluster": cluster,
    "contrastive_center": contrastive_center,
    "affinity": affinity,
    "sparse_center": sparse_center,
}
PENALTIES = {name: island_penalty if name == "island" else no_penalty for name in TERMS}


def reference(name: str, head: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (N,) and penalty."""
    rows = [list(row) for row in x]
    if name in PLAIN:
        losses = [PLAIN[name](head, row, int(label)) for row, label in zip(rows, y, strict=True)]
        return torch.stack(losses), torch.tensor(0.0)
    centers = [list(row) for row in head.centers]
    losses = [
        softmax(head, row, int(label)) + head.weight * TERMS[name](head, row, int(label), centers)
        for row, label in zip(rows, y, strict=True)
    ]
    return torch.stack(losses), head.weight * PENALTIES[name](head, centers)


def numbers(output: Any) -> Tensor:
    """What training minimises, with weights that tell samples apart."""
    order = torch.arange(1.0, len(output.per_sample) + 1)
    return (order * output.per_sample).mean() + output.penalty


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    ("name", "update"), [(name, u) for name in NAMES for u in (UPDATES if name in WITH_CENTERS else ("",))]
)
def test_values_and_gradients_are_those_of_a_slow_loop(name: str, update: str, labels: str) -> None:
    head = make(name, **({"center_update": update} if update else {}))
    x, y = batch(labels)
    x.requires_grad_()
    tensors = [x, *head.parameters()]
    output = head(x, y)
    losses, penalty = reference(name, head, x, y)
    torch.testing.assert_close(output.per_sample, losses, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.as_tensor(output.penalty), penalty, rtol=0, atol=1e-9)
    order = torch.arange(1.0, len(y) + 1)
    found = torch.autograd.grad(numbers(output), tensors)
    expected = torch.autograd.grad((order * losses).mean() + penalty, tensors)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    head = make(name, **({"center_update": "gradient"} if name in WITH_CENTERS else {}))
    x, y = batch()
    names, values = zip(*head.named_parameters(), strict=True)

    def losses(features: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        output = functional_call(head, dict(zip(names, parameters, strict=True)), (features, y))
        return output.per_sample, torch.as_tensor(output.penalty) + 0 * features.sum()

    inputs = [x.requires_grad_(), *(value.detach().clone().requires_grad_() for value in values)]
    assert torch.autograd.gradcheck(losses, inputs, fast_mode=name == "sparse_center")


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_running_centers_take_the_step_of_their_rule(name: str) -> None:
    head = make(name)
    x, y = batch("class 1 absent")
    before = head.centers.clone()
    between = torch.zeros(C, D)
    if name == "island":  # sum over the others of d cos(c_j, c_k) / d c_j, lambda_1 over the number of others
        for j in range(C):
            for k in set(range(C)) - {j}:
                a, b = before[j], before[k]
                slope = b / (a.norm() * b.norm()) - (a @ b) * a / (a.norm() ** 3 * b.norm())
                between[j] += head.island_weight * slope / (C - 1)
    for k in range(C):
        own = [row for row, label in zip(x, y, strict=True) if label == k]
        pulls = [
            (head.attention(row[None])[0] if name == "sparse_center" else 1) * (row - before[k]) for row in own
        ]
        before[k] += head.center_rate * (sum(pulls, torch.zeros(D)) / (1 + len(own)) - between[k])
    head.observe(x, y, WEIGHTS)
    head.after_step()
    torch.testing.assert_close(head.centers, before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_exact_centers_follow_the_gradient_of_the_weighted_mean_without_lambda(name: str) -> None:
    head = make(name, center_update="exact", center_rate=0.3)
    x, y = batch("class 1 absent")
    centers = [row.clone().requires_grad_() for row in head.centers]
    terms = [
        WEIGHTS[label] * TERMS[name](head, list(row), int(label), [list(c) for c in centers])
        for row, label in zip(x, y, strict=True)
    ]
    loss = torch.stack(terms).mean() + PENALTIES[name](head, [list(c) for c in centers])
    slopes = torch.autograd.grad(loss, centers, allow_unused=True)
    expected = torch.stack(
        [c.detach() - 0.3 * (torch.zeros(D) if g is None else g) for c, g in zip(centers, slopes, strict=True)]
    )
    for part in (slice(0, 2), slice(2, 6)):  # two micro-batches of one step
        head.observe(x[part], y[part], WEIGHTS)
    head.after_step()
    torch.testing.assert_close(head.centers, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_the_same_with_and_without_labels(name: str, training: bool) -> None:
    head, (x, y) = make(name).train(training), batch()
    assert torch.equal(head(x, y).logits, head(x).logits)
    assert head(x).per_sample is None


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_give_finite_float32_losses(name: str, precision: str) -> None:
    dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32
    head = make(name).to(dtype)
    with torch.no_grad():
        head.classifier.weight.copy_(1e4 * torch.eye(C, D))
    x = torch.eye(D, dtype=dtype, requires_grad=True)
    y = torch.tensor([0, 2, 1])  # right, wrong by 1e4, wrong by 1e4
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        output = head(x, y)
    assert output.per_sample.dtype == torch.float32
    assert torch.isfinite(output.per_sample).all()
    assert (output.per_sample[1:] > output.per_sample[0] + 10).all()
    numbers(output).backward()
    assert x.grad is not None
    for gradient in (x.grad, *(value.grad for value in head.parameters() if value.grad is not None)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", WITH_CENTERS)
@pytest.mark.parametrize("update", UPDATES)
def test_it_is_usable_from_centers_at_zero(name: str, update: str) -> None:
    head = make(name, center_update=update).float()
    head.init_centers(torch.zeros(C, D))
    x, y = batch("class 1 absent")
    x = x.float()
    for _ in range(3):
        output = head(x, y)
        assert torch.isfinite(output.per_sample).all()
        numbers(output).backward()
        head.observe(x, y, WEIGHTS.float())
        head.after_step()
        assert torch.isfinite(head.centers).all()


@pytest.mark.parametrize("name", NAMES)
def test_soft_labels_are_taken_as_expected_losses_or_refused(name: str) -> None:
    head, (x, y) = make(name), batch()
    soft = torch.rand(len(y), C).softmax(1)
    if not head.soft_labels:
        with pytest.raises(ValueError, match=r"labels \(N,\) as class indices, not"):
            head(x, soft)
        return
    each = torch.stack([head(x, torch.full_like(y, k)).per_sample for k in range(C)], 1)
    torch.testing.assert_close(head(x, soft).per_sample, (soft * each).sum(1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_number_gets_a_gradient(name: str) -> None:
    """DistributedDataParallel refuses parameters that a loss does not reach."""
    head, (x, y) = make(name), batch()
    numbers(head(x, y)).backward()
    assert all(value.grad is not None for value in head.parameters())


# Heads that are one another where a number says so.


def same(one: Any, other: Any) -> None:
    other.classifier.load_state_dict(one.classifier.state_dict())
    (x, y), gradients = batch(), []
    for head in (one, other):
        features = x.clone().requires_grad_()
        output = head(features, y)
        numbers(output).backward()
        gradients.append((output.logits, output.per_sample, features.grad, head.classifier.weight.grad))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["focal", "logit_adjusted"])
def test_gamma_or_tau_zero_is_softmax(name: str) -> None:
    same(make(name, **{"focal": {"gamma": 0.0}, "logit_adjusted": {"tau": 0.0}}[name]), make("softmax"))


def test_balanced_softmax_with_equal_counts_is_softmax() -> None:
    same(BalancedSoftmaxHead(D, ClassStats(STATS.names, (7, 7, 7, 7))), make("softmax"))


def test_balanced_softmax_is_logit_adjustment_with_tau_one() -> None:
    same(make("balanced_softmax"), make("logit_adjusted", tau=1.0))


@pytest.mark.parametrize(("name", "margin"), [("ldam", "max_margin"), ("arcface", "margin")])
def test_without_margin_it_is_a_scaled_cosine_softmax(name: str, margin: str) -> None:
    same(make(name, scale=7.0, **{margin: 0.0}), cosine := CosineHead(D, STATS, scale=7.0))
    (x, y) = batch()
    unit, rows = x / x.norm(dim=1, keepdim=True), cosine.classifier.weight
    z = 7 * unit @ (rows / rows.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(cosine(x, y).per_sample, torch.nn.functional.cross_entropy(z, y, reduction="none"))


@pytest.mark.parametrize("name", WITH_CENTERS)
def test_with_weight_zero_it_is_softmax(name: str) -> None:
    same(make(name, weight=0.0), make("softmax"))


def test_contrastive_center_and_cluster_differ_on_a_pinned_example() -> None:
    """Centers 0, 3 and 4i; x = 1: to the center 1, centers apart 9 + 16, x to the others 4 + 17, delta 1."""
    stats = ClassStats(("a", "b", "c"), (1, 1, 1))
    centers = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    found = []
    for kind in (ClusterHead, ContrastiveCenterHead):
        head = kind(2, stats, weight=1.0, delta=1.0)
        head.init_centers(centers)
        found.append(float(head(x, y).terms["center_term"]))
    assert found == pytest.approx([0.5 / 26, 0.5 / 22])


def test_the_island_penalty_of_opposite_and_of_equal_directions() -> None:
    head = IslandHead(2, ClassStats(("a", "b"), (1, 1)), weight=0.5, island_weight=3.0)
    for second, cosine in ((-2.0, -1.0), (5.0, 1.0)):
        head.init_centers(torch.tensor([[1.0, 0.0], [second, 0.0]]))
        x, y = torch.zeros(1, 2), torch.tensor([0])
        assert float(head(x, y).penalty) == pytest.approx(0.5 * 3 * 2 * (cosine + 1))


def test_island_centers_move_apart_where_running_ones_do_not() -> None:
    """Batches that hold nothing but the class means leave center loss where it is."""
    means = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
    stats = ClassStats(("a", "b"), (1, 1))
    for head, moves in ((make("center"), False), (IslandHead(2, stats), True)):
        if not moves:
            head = type(head)(2, stats)
        head.init_centers(means)
        head.observe(means, torch.tensor([0, 1]), torch.ones(2))
        head.after_step()
        assert torch.equal(head.centers, means) != moves
        assert moves == (
            torch.cosine_similarity(*head.centers, dim=0) < torch.cosine_similarity(*means, dim=0) - 1e-6
        )


def test_label_smoothing_is_torchs() -> None:
    head, (x, y) = make("softmax", label_smoothing=0.3), batch()
    target_of = 0.7 * torch.nn.functional.one_hot(y, C) + 0.3 / C
    expected = -(target_of * head(x).logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(head(x, y).per_sample, expected, rtol=0, atol=1e-12)


def test_a_rarer_class_has_a_wider_margin_and_the_rarest_the_largest() -> None:
    margins = LDAMHead(D, STATS, max_margin=0.4).margins
    assert (margins.diff() > 0).all()
    assert float(margins[-1]) == pytest.approx(0.4)
    assert float(margins[0]) == pytest.approx(0.4 * (10 / 40) ** 0.25)


@pytest.mark.parametrize(
    ("name", "numbers_", "message"),
    [
        ("softmax", {"label_smoothing": 1.0}, r"label_smoothing .*1\.0"),
        ("focal", {"gamma": -1.0}, r"gamma .*-1\.0"),
        ("logit_adjusted", {"tau": -0.5}, r"tau .*-0\.5"),
        ("ldam", {"max_margin": -0.1}, r"max_margin .*-0\.1"),
        ("ldam", {"scale": 0.0}, r"scale .*0\.0"),
        ("arcface", {"margin": 3.2}, r"margin .*3\.2"),
        ("arcface", {"scale": -1.0}, r"scale .*-1\.0"),
        ("contrastive_center", {"delta": 0.0}, r"delta .*0\.0"),
        ("affinity", {"delta": -1.0}, r"delta .*-1\.0"),
        ("island", {"island_weight": -1.0}, r"island_weight .*-1\.0"),
    ],
)
def test_numbers_without_sense_are_refused_by_name(name: str, numbers_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **numbers_)


@pytest.mark.parametrize("name", ["logit_adjusted", "balanced_softmax", "ldam"])
def test_a_class_without_images_is_refused_where_counts_matter(name: str) -> None:
    with pytest.raises(ValueError, match=r"counts \(3, 0\)"):
        target("loss", CONFIGS[name])(D, ClassStats(("a", "b"), (3, 0)), **arguments(CONFIGS[name]))


@pytest.mark.parametrize("name", NAMES)
def test_the_config_says_the_constructors_defaults(name: str) -> None:
    head = target("loss", CONFIGS[name])
    plain, said = head(D, STATS), head(D, STATS, **arguments(CONFIGS[name]))
    skipped = {"training"}
    for key, value in vars(plain).items():
        if isinstance(value, int | float | str) and key not in skipped:
            assert vars(said)[key] == value, key

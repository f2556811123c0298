"""Base class of heads with one center per class: how centers start and move, with equal results on all ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from fer_lightning.core.contracts import ClassStats, HeadOutput
from fer_lightning.core.ranges import NotNegative, Positive
from fer_lightning.losses.center_statistics import center_drift, class_sums
from fer_lightning.losses.softmax import SoftmaxHead, at_least_float32

CenterUpdate = Literal["running", "exact", "gradient"]


class CenterTermHead(SoftmaxHead):
    """Head with cross-entropy plus lambda times a term of the embeddings and of one center per class.

    The centers are zero until ``init_centers`` gets the class means. ``forward`` does not move them: the training
    loop passes every micro-batch of a step to ``observe``, and calls ``after_step`` after the optimizer's step. A
    loss of the centers alone is ``between``; it becomes the penalty.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        weight: lambda, the factor of the term in per_sample. 0.01 is an untuned default.
        center_update: how a center c_j moves. ``running``: by rate * sum_{y_i=j} (x_i - c_j) / (1 + n_j) over the
            global batch (Wen et al. 2016, eq. 4), and by -rate / (2 (C - 1)) times the gradient of ``between``
            (Cai et al. 2018); ``exact``: by -rate times the exact gradient of mean_i w_{y_i} term_i +
            between, without lambda; ``gradient``: by -rate times the gradient from backpropagation, which
            includes lambda and w (plain SGD without momentum and weight decay).
        center_rate: the rate in these rules.

    Attributes:
        running_leaves_out_the_push: whether the loss pushes centers apart, and the rule ``running`` does not.

    Raises:
        ValueError: weight is negative, center_rate is not positive (or above 1 for ``running``), or center_update
            is unknown.
    """

    soft_labels: ClassVar[bool] = False
    running_leaves_out_the_push: ClassVar[bool] = False
    centers: Tensor

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 0.01,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(feature_dim, class_stats)
        if not weight >= 0:  # true for nan, too
            raise ValueError(f"weight must not be negative, got {weight}")
        if center_update not in get_args(CenterUpdate):
            raise ValueError(
                f"center_update must be one of {', '.join(get_args(CenterUpdate))}, got {center_update}"
            )
        if center_rate <= 0 or (center_update == "running" and center_rate > 1):
            raise ValueError(
                f"center_rate must be in (0, 1] for center_update=running, else positive; got {center_rate}"
            )
        self.weight = weight
        self.center_update = center_update
        self.center_rate = center_rate
        zeros = torch.zeros(class_stats.num_classes, feature_dim)
        if center_update == "gradient":
            self.centers = nn.Parameter(zeros)
        else:
            self.register_buffer("centers", zeros)
        self._observed: Tensor | None = None

    @property
    def leaves_out_the_push(self) -> bool:
        """Return whether the centers move by a rule that lacks the push of the loss between them."""
        return self.running_leaves_out_the_push and self.center_update == "running"

    @abstractmethod
    def term(self, embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        """Return the term (N,) without lambda and class weights.

        Args:
            embeddings: x (N, D).
            labels: class indices y (N,).
            centers: c (C, D).
        """

    def between(self, centers: Tensor) -> Tensor | None:
        """Return the loss of the centers (C, D) alone, a scalar without lambda; None if there is none."""
        return None

    def offsets(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return x_i - c_{y_i} (N, D), which the rule ``running`` moves the centers by."""
        return embeddings - self.centers.index_select(0, labels)

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Return logits (N, C) and, given labels (N,), per_sample = cross-entropy + lambda * term."""
        output = super().forward(embeddings, labels)
        if output.per_sample is None or labels is None:
            return output
        weighted_term = self.weight * self.term(at_least_float32(embeddings), labels, self.centers)
        output.terms["center_term"] = weighted_term
        output.per_sample = output.per_sample + weighted_term
        if (between := self.between(self.centers)) is not None:
            output.penalty = self.weight * between
        return output

    @torch.no_grad()
    def init_centers(self, means: Tensor) -> None:
        """Set the centers to the class means (C, D) of the embeddings at the start of training.

        Raises:
            ValueError: the shape differs, or a mean is not finite (a class without images).
        """
        if means.shape != self.centers.shape:
            raise ValueError(
                f"class means have shape {tuple(means.shape)}, the centers {tuple(self.centers.shape)}"
            )
        if not torch.isfinite(means).all():
            raise ValueError("a class mean is not finite; every class needs an image")
        self.centers.copy_(means)

    @torch.no_grad()
    def observe(self, embeddings: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Add a micro-batch to the next step of the centers.

        Args:
            embeddings: x (N, D).
            labels: class indices y (N,).
            weights: class weights w (C,).
        """
        if self.center_update == "gradient":
            return
        embeddings = embeddings.detach().to(self.centers.dtype)
        with torch.autocast(embeddings.device.type, enabled=False):  # autocast would multiply in half precision
            if self.center_update == "running":
                observed = class_sums(self.offsets(embeddings, labels), labels, len(self.centers))
            else:
                w = weights.to(self.centers.dtype).index_select(0, labels)
                gradient = self._gradient(lambda centers: (w * self.term(embeddings, labels, centers)).sum())
                observed = F.pad(gradient, (0, 1), value=len(embeddings))
        self._observed = observed if self._observed is None else self._observed + observed

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the centers by what all ranks have observed since the last call; equally on every rank."""
        if self.center_update == "gradient":
            if self.centers.grad is not None:  # the mean over all ranks, by DistributedDataParallel
                self.centers -= self.center_rate * self.centers.grad
                self.centers.grad = None
            return
        if self._observed is None:
            return
        observed, self._observed = self._observed, None
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(observed)
        moves, size = observed[:, :-1], observed[:, -1:]
        apart = self._gradient(self.between)
        if self.center_update == "running":
            others = max(len(self.centers) - 1, 1)
            self.centers += self.center_rate * (moves / (1 + size) - apart / (2 * others))
        else:
            self.centers -= self.center_rate * (moves / size + apart)

    @torch.no_grad()
    def epoch_scalars(self, means: Tensor, grand_mean: Tensor) -> dict[str, Tensor]:
        """Return by name what is logged of the centers after every epoch, one number per class (C,).

        Args:
            means: class means of the embeddings (C, D).
            grand_mean: mean of all embeddings (D,).
        """
        return {"center_drift": center_drift(self.centers.to(means), means, grand_mean)}

    def _gradient(self, function: Callable[[Tensor], Tensor | None]) -> Tensor:
        """Return the gradient (C, D) of a function at the centers; zeros if it returns None."""
        with torch.enable_grad():
            centers = self.centers.detach().clone().requires_grad_()
            value = function(centers)
            return torch.zeros_like(centers) if value is None else torch.autograd.grad(value, centers)[0]


class CenterRatioHead(CenterTermHead):
    """Head whose term is a distance to the center of the class over another distance plus delta.

    Args:
        feature_dim: D, the size of an embedding.
        class_stats: the C classes.
        weight: lambda. 1 is an untuned default.
        delta: keeps the denominator away from zero.
        center_update: see CenterTermHead.
        center_rate: see CenterTermHead.

    Raises:
        ValueError: delta is not positive, or as for CenterTermHead.
    """

    def __init__(
        self,
        feature_dim: int,
        class_stats: ClassStats,
        *,
        weight: NotNegative = 1.0,
        delta: Positive = 1.0,
        center_update: CenterUpdate = "running",
        center_rate: Positive = 0.5,
    ) -> None:
        super().__init__(
            feature_dim, class_stats, weight=weight, center_update=center_update, center_rate=center_rate
        )
        if not delta > 0:
            raise ValueError(f"delta must be positive, got {delta}")
        self.delta = delta

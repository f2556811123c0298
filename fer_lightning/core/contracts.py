"""The two objects that modules pass to one another, and the contract between the training loop and a loss head.

A loss head is a ``torch.nn.Module`` whose ``forward(embeddings, labels=None)`` returns a ``HeadOutput``. It may
have any of these hooks, which are called if they exist:

- ``init_centers(means)``: before training, with the class means (C, D) of the embeddings;
- ``observe(embeddings, labels, class_weights)``: after the forward pass of every (micro-)batch of this rank;
- ``after_step()``: after every optimizer step, on every rank;
- ``epoch_scalars(means, grand_mean)``: after every epoch, with the class means (C, D) and the mean (D,) of the
  epoch's embeddings; returns values to log and draw by name, each one number per class (C,).

It may also have these attributes: ``centers`` (C, D), one for each class; ``soft_labels``: labels may be
distributions (N, C); ``corrects_imbalance``: the loss itself compensates for the sizes of the classes.
``losses.center_term.CenterTermHead`` has them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClassStats:
    """Names and image counts of the classes in the training part, without the minival.

    Args:
        names: class names, in the order of the classifier's outputs (C,).
        counts: images of each class, in the same order (C,).

    Raises:
        ValueError: the lengths differ, a name occurs twice, or a count is negative.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.counts):
            raise ValueError(f"{len(self.names)} class names but {len(self.counts)} counts")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a class is named twice: {self.names}")
        if any(n < 0 for n in self.counts):
            raise ValueError(f"a class count is negative: {self.counts}")

    @property
    def num_classes(self) -> int:
        """Return C, the number of classes."""
        return len(self.names)


@dataclass
class HeadOutput:
    """Output of a loss head for a batch of N embeddings.

    Attributes:
        logits: (N, C) inference logits, the same with and without labels.
        per_sample: (N,) unweighted losses; None without labels.
        terms: (N,) parts of the loss by name, used in the log only.
        penalty: scalar added to the mean over the batch, without a class weight.
    """

    logits: Tensor
    per_sample: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    penalty: Tensor | float = 0.0

"""The two objects that modules hand to one another, and what the training loop asks of a loss head.

A loss head is a ``torch.nn.Module`` whose ``forward(embeddings, labels=None)`` returns a ``HeadOutput``. It may
have any of these hooks, which are called where they are present:

- ``init_centers(means)``: before training, with the class means (C, D) of the embeddings;
- ``observe(embeddings, labels, class_weights)``: after the forward pass of every (micro-)batch of this rank;
- ``after_step()``: after every optimizer step, on every rank;
- ``epoch_scalars(means, grand_mean)``: after every epoch, with the class means (C, D) and the mean (D,) of the
  epoch's embeddings; returns what is logged and drawn, by name: one number a class (C,).

and these attributes: ``centers`` (C, D), one a class; ``soft_labels``: labels may be distributions (N, C);
``corrects_imbalance``: the loss itself makes up for the classes' sizes. ``losses.center_term.CenterTermHead`` has
them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClassStats:
    """The classes of the training part (the minival excluded) and how many images each has.

    Args:
        names: class names, in the order of the classifier's outputs (C,).
        counts: images a class, same order (C,).

    Raises:
        ValueError: lengths differ, a name is there twice, or a count is negative.
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
        """C, the number of classes."""
        return len(self.names)


@dataclass
class HeadOutput:
    """What a loss head returns for a batch of N embeddings.

    Attributes:
        logits: (N, C) inference logits, the same with and without labels.
        per_sample: (N,) unweighted losses; None where no labels were given.
        terms: named (N,) parts of the loss, for the log only.
        penalty: scalar added once to the batch's mean; it carries no class weight.
    """

    logits: Tensor
    per_sample: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    penalty: Tensor | float = 0.0

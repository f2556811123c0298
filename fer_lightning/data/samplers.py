"""Samplers: the training pictures of an epoch and their order, split over ranks.

A sampler is a function (labels, generator, progress) -> indices into labels, and a YAML in conf/sampler. Progress
goes from 0 in the first epoch of a stage to 1 in the last. All epochs must have the same length, since the number
of steps is needed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from fer_lightning.core.ranges import Share, UpToOne
from fer_lightning.data.counting import occurrences

Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Draw = Callable[[Labels, np.random.Generator, float], Indices]


def shuffle(labels: Labels, generator: np.random.Generator, progress: float) -> Indices:
    """Draw every picture once, in random order: indices (N,) into ``labels``."""
    return generator.permutation(len(labels))


def balanced(labels: Labels, generator: np.random.Generator, progress: float) -> Indices:
    """Draw every class equally often, p_k = 1 / C: indices (N,); see ``power``."""
    return power(labels, generator, progress, q=0.0)


def sqrt(labels: Labels, generator: np.random.Generator, progress: float) -> Indices:
    """Draw class k with probability proportional to N_k^0.5, half way to ``balanced``; see ``power``."""
    return power(labels, generator, progress, q=0.5)


def power(labels: Labels, generator: np.random.Generator, progress: float, *, q: Share) -> Indices:
    """Draw with p_k proportional to N_k^q (Kang et al., ICLR 2020, eq. 1).

    Args:
        labels: class indices (N,).
        generator: generator of this epoch.
        progress: unused.
        q: exponent; 0 is ``balanced``, 1 shows each picture once.

    Returns:
        Indices (N,).

    Raises:
        ValueError: q is outside [0, 1]; a class has no picture (also for all other samplers but ``shuffle``).
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q must be in [0, 1], got {q}")
    shares = _counts(labels) ** q
    return _drawn(labels, len(labels) * shares / shares.sum(), generator)


def progressive(labels: Labels, generator: np.random.Generator, progress: float) -> Indices:
    """Draw with p = (1 - t) p_natural + t p_balanced, t = progress (Kang et al., ICLR 2020, eq. 2): (N,)."""
    counts = _counts(labels)
    return _drawn(labels, (1 - progress) * counts + progress * counts.mean(), generator)


def repeat_factor(
    labels: Labels, generator: np.random.Generator, progress: float, *, threshold: UpToOne
) -> Indices:
    """Draw each picture r_k = max(1, sqrt(threshold / f_k)) times, f_k = N_k / N (Gupta et al., CVPR 2019, LVIS).

    Args:
        labels: class indices (N,).
        generator: generator of this epoch.
        progress: unused.
        threshold: share of the images below which a class is repeated.

    Returns:
        Indices (round(sum_k r_k N_k),): an epoch is longer than the training part.

    Raises:
        ValueError: threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    counts = _counts(labels)
    repeats: Floats = np.maximum(1, np.sqrt(threshold * len(labels) / counts))
    return _drawn(labels, repeats * counts, generator)


def shown(labels: Labels, draw: Draw, progress: float) -> Floats:
    """Return how often an epoch shows a picture of each class (C,), on average over the class's pictures.

    The result counts one draw; the draws of this module's samplers differ by one picture per class.
    """
    order = draw(labels, np.random.default_rng(0), progress)
    counts = _counts(labels)
    return np.bincount(labels[order], minlength=len(counts)) / counts


def _counts(labels: Labels) -> Indices:
    """Return N_k (C,)."""
    counts = np.bincount(labels)
    if not counts.all():
        raise ValueError(f"class {counts.argmin()} has no picture to show")
    return counts


def _drawn(labels: Labels, expected: Floats, generator: np.random.Generator) -> Indices:
    """Draw round(sum(expected)) indices in random order, on average expected[k] of class k per epoch.

    Systematic rounding: the classes are intervals of length expected[k], end to end on a line. A class is drawn as
    often as its interval contains a whole number shifted by one uniform offset. Pictures of a class are shown
    equally often, up to a difference of one.
    """
    total = round(expected.sum())
    ends = np.floor(expected.cumsum() * (total / expected.sum()) + generator.random())
    ends[-1] = total  # which it is already, up to float error
    draws = np.diff(ends, prepend=0).astype(np.int64)
    # np.resize repeats the permuted class from its start up to n pictures
    parts = [np.resize(generator.permutation(np.flatnonzero(labels == k)), n) for k, n in enumerate(draws)]
    return generator.permutation(np.concatenate(parts))


class Pick(NamedTuple):
    """A drawn picture: its index in the part, and what its augmentation depends on.

    The epoch accompanies the index, because the data set's copies in loader workers cannot know it otherwise.
    """

    picture: int
    epoch: int
    showing: int
    """Number of times that this epoch has shown the picture before."""


@dataclass(frozen=True)
class Views:
    """A fixed number of augmented views of each picture, of which an epoch shows one, in turn.

    Args:
        count: number of views.
        seed: seed of their augmentation.
        code: identifier of the augmentation.
    """

    count: int
    seed: int
    code: str

    def of(self, pick: Pick) -> Pick:
        """Return the view to show for a drawn picture, with the number of the view as its epoch."""
        return Pick(pick.picture, (pick.epoch + pick.showing) % self.count, 0)


class GlobalBatches(Sampler[list[Pick]]):
    """Batch sampler that yields this rank's part of each global batch; an incomplete last batch is dropped.

    All ranks draw the same order from (seed, epoch) and take their slice of each global batch, so a step contains
    the same pictures for any number of ranks and micro-batches.

    Args:
        labels: class indices (N,) of the training part.
        draw: sampler, such as the functions of this module.
        batch_size: pictures per step: global, over all ranks and micro-batches.
        seed: seed of the order.
        rank: rank of this process.
        ranks: number of ranks.
        epochs: number of epochs of the stage.
        accumulate: micro-batches per step.

    Raises:
        ValueError: ranks and micro-batches do not divide the batch, or an epoch has fewer pictures than one batch.
    """

    def __init__(
        self,
        labels: Labels,
        draw: Draw,
        batch_size: int,
        seed: int,
        rank: int,
        ranks: int,
        epochs: int = 1,
        accumulate: int = 1,
    ) -> None:
        if batch_size % (ranks * accumulate):
            raise ValueError(
                f"data.batch_size={batch_size} (global) cannot be split evenly over {ranks} ranks"
                + (f" x {accumulate} micro-batches" if accumulate > 1 else "")
            )
        self.draws = len(draw(labels, np.random.default_rng(seed), 0.0))
        if self.draws < batch_size:
            raise ValueError(
                f"data.batch_size={batch_size}: an epoch shows {self.draws} pictures; choose a smaller one"
            )
        self.labels = labels
        self.draw = draw
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.parts = (accumulate, ranks)
        self.epochs = epochs
        self.epoch = 0

    @property
    def sampler(self) -> GlobalBatches:
        """Return self: Lightning calls ``set_epoch`` on a batch sampler's ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration draws for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws // self.batch_size * self.parts[0]

    def __iter__(self) -> Iterator[list[Pick]]:
        yield from self.of(self.epoch)  # lazily, since Lightning sets a resumed stage's epoch after this call

    def of(self, epoch: int) -> Iterator[list[Pick]]:
        """Yield the batches of an epoch, the same at each call."""
        progress = epoch / (self.epochs - 1) if self.epochs > 1 else 0.0
        order = self.draw(self.labels, np.random.default_rng([self.seed, epoch]), progress)
        if len(order) != self.draws:
            raise ValueError(f"the sampler drew {len(order)} pictures for epoch {epoch}, not {self.draws}")
        picks = np.stack([order, occurrences(order)], 1)[: self.draws // self.batch_size * self.batch_size]
        for step in picks.reshape(-1, *self.parts, self.batch_size // np.prod(self.parts), 2):
            for batch in step[:, self.rank]:
                yield [Pick(int(index), epoch, int(showing)) for index, showing in batch]

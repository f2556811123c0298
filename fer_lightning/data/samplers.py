"""Which training pictures an epoch shows, in which order, split over ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

Labels = npt.NDArray[np.int64]
Draw = Callable[[Labels, np.random.Generator], npt.NDArray[np.int64]]


def shuffle(labels: Labels, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Every picture once, in random order: indices (N,) into ``labels``."""
    return generator.permutation(len(labels))


class GlobalBatches(Sampler[list[tuple[int, int]]]):
    """This rank's part of each global batch, as (epoch, index) pairs; whole batches only.

    All ranks draw the same order from (seed, epoch) and take their own slice of each global batch, so the same
    pictures meet in a step for any number of ranks. The epoch travels with the index because the data set's
    copies in loader workers do not learn of it otherwise.

    Args:
        labels: class indices (N,) of the training part.
        draw: a function of this module.
        batch_size: global, over all ranks.
        seed: of the order.
        rank: this process.
        ranks: how many there are.

    Raises:
        ValueError: the ranks do not divide the batch, or there are fewer pictures than one batch.
    """

    def __init__(self, labels: Labels, draw: Draw, batch_size: int, seed: int, rank: int, ranks: int) -> None:
        if batch_size % ranks:
            raise ValueError(f"data.batch_size={batch_size} (global) cannot be split evenly over {ranks} ranks")
        if len(labels) < batch_size:
            raise ValueError(f"data.batch_size={batch_size}, but the training part has {len(labels)} pictures")
        self.labels = labels
        self.draw = draw
        self.batch_size = batch_size
        self.seed = seed
        self.share = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
        self.epoch = 0

    @property
    def sampler(self) -> GlobalBatches:
        """Lightning tells the epoch to a batch sampler's ``sampler``: this one is its own."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration draws for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.draw(self.labels, np.random.default_rng([self.seed, self.epoch]))
        for batch in order[: len(self) * self.batch_size].reshape(len(self), self.batch_size):
            yield [(self.epoch, int(index)) for index in batch[self.share]]

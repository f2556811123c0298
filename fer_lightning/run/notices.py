"""What a user should know before training starts: choices that do less, or more, than they seem to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.network import Network
from fer_lightning.training.stage import Stage

NO_OP = 1.1
"""Class weights, or showings of a picture, change nothing where largest over smallest is less than this."""


NO_MIXING = (
    "mixing={mixing} does nothing in a stage that is trained from a frozen backbone's embeddings; "
    "to mix there, too, say cached=false for it"
)


@dataclass(frozen=True)
class Imbalance:
    """What a run does about the imbalance outside its loss.

    Attributes:
        scheme: option chosen of class_weights.
        weights: w (C,).
        from_epoch: from which epoch of the run they are in force.
        epochs: of the run.
        sampler: option chosen.
        shown: how often an epoch shows a picture of each class (C,), on average over the epochs.
    """

    scheme: str
    weights: Tensor
    from_epoch: int
    epochs: int
    sampler: str
    shown: npt.NDArray[np.float64]

    @property
    def weighs(self) -> bool:
        """Whether the class weights make a difference."""
        return float(self.weights.max() / self.weights.min()) >= NO_OP and self.from_epoch < self.epochs

    @property
    def samples(self) -> bool:
        """Whether the sampler does."""
        return float(self.shown.max() / self.shown.min()) >= NO_OP


def about_the_pictures(backbone: Backbone, side: int) -> Iterator[str]:
    """Yield what it costs that the backbone resizes the pictures, where it does.

    Args:
        backbone: of the network.
        side: of the pictures that it is given, in pixels.
    """
    size = backbone.spec.get("input_size")
    if not size or size == [side, side]:
        return
    height, width = size
    cost = height * width / side**2
    yield (
        f"the backbone resizes pictures of {side} x {side} pixels to {height} x {width}, as {backbone.name} was "
        f"trained: about {cost:.2g} times the computation; backbone.input_size={side} takes them as they are, "
        "where the network can"
    )


def about_the_head(network: Network, stage: Stage) -> Iterator[str]:
    """Terms that do nothing in this stage, or less than their formula."""
    head = network.head
    if getattr(head, "centers", None) is None:
        return
    name = type(head).__name__
    if stage.frozen and not any(True for _ in network.neck.parameters()):
        yield (
            f"{name}'s term is a no-op here: backbone and neck have nothing to train, "
            "so the run equals softmax; choose neck=linear512_prelu, or stage=fine_tuning"
        )
    if getattr(head, "leaves_out_the_push", False):
        yield (
            f"{name} with center_update=running: centers follow the class means, nothing pushes classes apart; "
            "the formula does, choose loss.center_update=exact or gradient for that"
        )


def about_the_imbalance(head: nn.Module, stats: ClassStats, said: Imbalance) -> Iterator[str]:
    """Corrections of the imbalance that do nothing, that come twice, and how often pictures are shown."""
    if said.scheme != "none" and said.from_epoch >= said.epochs:
        yield (
            f"class_weights={said.scheme} is a no-op here: it starts in epoch {said.from_epoch}, "
            f"and the run has {said.epochs}; lower class_weights.from_epoch"
        )
    elif said.scheme != "none" and not said.weighs:
        ratio = float(said.weights.max() / said.weights.min())
        yield (
            f"class_weights={said.scheme} is a no-op here: the largest weight is {ratio:.2f} times the smallest; "
            "for effective_number raise class_weights.beta towards 1"
        )
    if said.samples:
        times = ", ".join(f"{name} {n:.2g}" for name, n in zip(stats.names, said.shown, strict=True))
        yield f"sampler={said.sampler} shows each image so many times an epoch: {times}"
    corrections = [
        name
        for name, used in (
            (f"class_weights={said.scheme}", said.weighs),
            (f"sampler={said.sampler}", said.samples),
            (type(head).__name__, getattr(head, "corrects_imbalance", False)),
        )
        if used
    ]
    if len(corrections) > 1:
        yield f"the imbalance is corrected more than once, by {' and by '.join(corrections)}; one is enough"

"""Notices before training starts: about choices that do less, or more, than they seem to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.models.backbone import Backbone
from fer_lightning.training.stage import Stage

NO_OP = 1.1
"""Smallest ratio of the largest to the smallest class weight, or showings of a picture, with an effect."""

WORTH_KEEPING = 50e9
"""Largest number of bytes of a view of activations that a machine may hold in memory between epochs."""

NO_MIXING = (
    "mixing={mixing} has no effect in a stage that is trained from the {kept} of a frozen backbone; "
    "set cached=false for the stage to mix there, too"
)


def picture_notices(backbone: Backbone, side: int) -> Iterator[str]:
    """Yield a notice of the cost if the backbone resizes its pictures.

    Args:
        backbone: backbone of the network.
        side: side of its input pictures, in pixels.
    """
    size = backbone.spec.get("input_size")
    if not size or size == [side, side]:
        return
    height, width = size
    cost = height * width / side**2
    yield (
        f"the backbone resizes pictures of {side} x {side} pixels to {height} x {width}: about {cost:.2g} times "
        f"the computation; backbone.input_size={side} takes them as they are, where the network can"
    )


def minival_notices(names: Sequence[str], counts: Sequence[int]) -> Iterator[str]:
    """Yield a notice of the classes that no epoch is chosen by.

    Args:
        names: names of the classes (C,).
        counts: number of pictures of each in the minival (C,).
    """
    if missing := [name for name, count in zip(names, counts, strict=True) if not count]:
        yield (
            f"the minival has no picture of {', '.join(missing)}: epochs are chosen by the recall of the other "
            "classes; pictures of one person or sequence are never divided, so such a class needs a second one"
        )


def activation_notices(size: float) -> Iterator[str]:
    """Yield a notice if a stage keeps more activations than is worth it.

    Args:
        size: bytes of a view of the training part.
    """
    if size > WORTH_KEEPING:
        yield (
            f"cached=true keeps {size / 1e9:.0f} GB of activations a view, which every epoch reads in random "
            "order: not worth it; set cached=false"
        )


def head_notices(neck: nn.Module, head: nn.Module, stage: Stage) -> Iterator[str]:
    """Yield notices about center terms that have no effect in a stage, or less than their formula."""
    if getattr(head, "centers", None) is None:
        return
    name = type(head).__name__
    if stage.frozen and not any(True for _ in neck.parameters()):
        yield (
            f"{name}'s term is a no-op here: backbone and neck have nothing to train, "
            "so the run equals softmax; choose neck=linear512_prelu, or stage=fine_tuning"
        )
    if getattr(head, "leaves_out_the_push", False):
        yield (
            f"{name} with center_update=running: centers follow the class means, nothing pushes classes apart; "
            "choose loss.center_update=exact or gradient for the push of the formula"
        )


def imbalance_notices(
    head: nn.Module,
    stats: ClassStats,
    *,
    scheme: str,
    weights: Tensor,
    from_epoch: int,
    epochs: int,
    sampler: str,
    shown: npt.NDArray[np.float64],
) -> Iterator[str]:
    """Yield notices about corrections of the imbalance: without effect, combined, and repeated pictures.

    Args:
        head: head of the network.
        stats: classes of the training part.
        scheme: chosen option of class_weights.
        weights: class weights w (C,).
        from_epoch: first epoch of the run with these weights.
        epochs: number of epochs of the run.
        sampler: chosen option of sampler.
        shown: number of times that an epoch shows a picture of each class (C,), averaged over the epochs.
    """
    ratio = float(weights.max() / weights.min())
    sampler_has_effect = shown.max() / shown.min() >= NO_OP
    if scheme != "none" and from_epoch >= epochs:
        yield (
            f"class_weights={scheme} is a no-op here: it starts in epoch {from_epoch}, "
            f"and the run has {epochs}; lower class_weights.from_epoch"
        )
    elif scheme != "none" and ratio < NO_OP:
        yield (
            f"class_weights={scheme} is a no-op here: the largest weight is {ratio:.2f} times the smallest; "
            "for effective_number raise class_weights.beta towards 1"
        )
    if sampler_has_effect:
        times = ", ".join(f"{name} {n:.2g}" for name, n in zip(stats.names, shown, strict=True))
        yield f"sampler={sampler} shows each image so many times an epoch: {times}"
    candidates = {
        f"class_weights={scheme}": ratio >= NO_OP and from_epoch < epochs,
        f"sampler={sampler}": sampler_has_effect,
        type(head).__name__: getattr(head, "corrects_imbalance", False),
    }
    corrections = [name for name, has_effect in candidates.items() if has_effect]
    if len(corrections) > 1:
        yield f"the imbalance is corrected more than once, by {' and by '.join(corrections)}; one is enough"

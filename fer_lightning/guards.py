"""What a user should know before training starts: choices that do less than they seem to."""

from __future__ import annotations

from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.models.network import Network
from fer_lightning.stages import Fit


def nothing_below_the_centers(network: Network, fit: Fit) -> str | None:
    """Center-type terms move embeddings; where nothing below the head is trained they do nothing."""
    trains_below = fit.train_blocks != 0 or any(True for _ in network.neck.parameters())
    if not isinstance(network.head, CenterTermHead) or trains_below:
        return None
    return (
        f"{type(network.head).__name__}'s term is a no-op here: backbone and neck have nothing to train, "
        "so the run equals softmax; choose neck=linear512_prelu, or stage=fine_tuning"
    )


def notices(network: Network, fit: Fit) -> list[str]:
    """All that is to be said about a fit, for the log and for result.json."""
    return [text for guard in (nothing_below_the_centers,) if (text := guard(network, fit))]

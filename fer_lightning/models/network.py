"""The whole network: backbone, neck and head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fer_lightning.core.contracts import HeadOutput


class Network(nn.Module):
    """Network of backbone, neck and head.

    Args:
        backbone: module from pictures (N, 3, H, W) to (N, num_features); nn.Identity if the network is given the
            backbone's embeddings.
        neck: module from (N, num_features) to embeddings (N, D).
        head: a loss head, see fer_lightning.losses.
    """

    backbone: Any  # nn.Module, whose further attributes are used
    neck: Any
    head: Any

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings (N, D) of pictures (N, 3, H, W)."""
        embeddings: Tensor = self.neck(self.backbone(images))
        return embeddings

    def forward(self, images: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Return the head's output for pictures (N, 3, H, W) and labels (N,)."""
        output: HeadOutput = self.head(self.embed(images), labels)
        return output

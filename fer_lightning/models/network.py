"""The network: backbone, neck and head in a row."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fer_lightning.core.contracts import HeadOutput


class Network(nn.Module):
    """backbone -> neck -> head. Fed with the backbone's embeddings, it has nn.Identity for a backbone.

    Args:
        backbone: pictures (N, 3, H, W) to (N, num_features).
        neck: to embeddings (N, D).
        head: a loss head from fer_lightning.losses.
    """

    backbone: Any  # an nn.Module; its own attributes are wanted too
    neck: Any
    head: Any

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings (N, D)."""
        embeddings: Tensor = self.neck(self.backbone(images))
        return embeddings

    def forward(self, images: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """The head's output for pictures (N, 3, H, W) and labels (N,)."""
        output: HeadOutput = self.head(self.embed(images), labels)
        return output

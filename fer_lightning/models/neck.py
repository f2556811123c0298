"""Necks: the layers between backbone and head. Center-type losses act on the embedding that a neck returns."""

from __future__ import annotations

from torch import nn

from fer_lightning.core.ranges import Count


class Identity(nn.Identity):
    """Neck without layers: the embedding is the output of the backbone."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.num_features = feature_dim


class LinearPReLU(nn.Sequential):
    """Linear layer with PReLU, (N, feature_dim) -> (N, features); the feature layer of a re-implementation.

    Args:
        feature_dim: size of the backbone's output.
        features: D, the size of the embedding.
    """

    def __init__(self, feature_dim: int, features: Count = 512) -> None:
        super().__init__(nn.Linear(feature_dim, features), nn.PReLU())
        self.num_features = features

"""Necks: what stands between backbone and head. Center-type losses shape what is trained here and below."""

from __future__ import annotations

from torch import nn

from fer_lightning.core.ranges import Count


class Identity(nn.Identity):
    """No neck: the embedding is what the backbone returns."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.num_features = feature_dim


class LinearPReLU(nn.Sequential):
    """A linear layer with PReLU, (N, feature_dim) -> (N, features); the feature layer of one re-implementation.

    Args:
        feature_dim: what the backbone returns.
        features: D, the size of the embedding.
    """

    def __init__(self, feature_dim: int, features: Count = 512) -> None:
        super().__init__(nn.Linear(feature_dim, features), nn.PReLU())
        self.num_features = features

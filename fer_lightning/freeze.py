"""Which parts of a backbone a stage trains; what is frozen stays as it is, its BatchNorm included."""

from __future__ import annotations

from torch import nn

from fer_lightning.errors import UserError
from fer_lightning.models.backbone import Backbone


def train_last_blocks(backbone: Backbone, blocks: int | None) -> None:
    """Let the last ``blocks`` blocks of a backbone be trained (0: none; None: the whole) and freeze the rest.

    Raises:
        UserError: the backbone has fewer blocks.
    """
    named = dict(backbone.named_parameters())
    groups = backbone.blocks()
    if blocks is not None and not 0 <= blocks <= len(groups):
        raise UserError(f"stage: train_blocks={blocks}, but {backbone.name} has {len(groups)} blocks")
    trained = {name for group in groups[len(groups) - (blocks or 0) :] for name in group}
    for name, parameter in named.items():
        parameter.requires_grad_(blocks is None or name in trained)


def keep_frozen_in_eval(module: nn.Module) -> None:
    """Put every part of which no parameter is trained into eval mode.

    requires_grad_(False) alone does not freeze: BatchNorm would go on normalising by, and counting, its batches.
    """
    for part in module.children():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
        else:
            keep_frozen_in_eval(part)

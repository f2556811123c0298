"""Which parts of a backbone a stage trains; what is frozen stays as it is, its BatchNorm included."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fer_lightning.core.errors import UserError
from fer_lightning.models.backbone import Backbone

BatchNorm = Literal["with_block", "only", "never"]


def freeze(backbone: Backbone, blocks: str | int, batch_norm: BatchNorm) -> None:
    """Say which parameters of a backbone are trained.

    Args:
        backbone: whose ``requires_grad`` is set, whatever it was before.
        blocks: what is frozen: ``none``, ``all``, a block's name (that block and all below it), or -n (all but the
            last n blocks).
        batch_norm: of what is not frozen, ``with_block``: everything is trained; ``only``: its BatchNorm alone;
            ``never``: everything else.

    Raises:
        UserError: there is no such block, or ``only`` finds no BatchNorm.
    """
    named = backbone.blocks()
    frozen = _how_many(blocks, [*named], backbone.name)
    trained = {name for block in [*named.values()][frozen:] for name in block}
    norms = {
        f"{path}.{name}"
        for path, module in backbone.named_modules()
        if isinstance(module, _BatchNorm)
        for name, _ in module.named_parameters(recurse=False)
    }
    if batch_norm == "only":
        if trained and not trained & norms:
            raise UserError(f"stage: batch_norm=only, but no trained block of {backbone.name} has a BatchNorm")
        trained &= norms
    elif batch_norm == "never":
        trained -= norms
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)


def _how_many(blocks: str | int, names: list[str], backbone: str) -> int:
    """The number of blocks that are frozen, counted from the first."""
    if isinstance(blocks, int):
        if -len(names) <= blocks < 0:
            return len(names) + blocks
        raise UserError(
            f"stage: freeze={blocks}: -n freezes all but the last n of {backbone}'s {len(names)} blocks"
        )
    if blocks in ("none", "all"):
        return len(names) if blocks == "all" else 0
    if blocks not in names:
        raise UserError(f"stage: freeze={blocks}: say none, all, -1 or a block of {backbone}: {', '.join(names)}")
    return names.index(blocks) + 1


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

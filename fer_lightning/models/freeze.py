"""Freezing of the parts of a backbone that a stage does not train, BatchNorm statistics included."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fer_lightning.core.errors import UserError
from fer_lightning.models.backbone import Backbone

BatchNorm = Literal["with_block", "only", "never"]


def freeze(backbone: Backbone, blocks: str | int, batch_norm: BatchNorm) -> None:
    """Set ``requires_grad`` of every parameter of a backbone.

    Args:
        backbone: the backbone; earlier values of ``requires_grad`` are overwritten.
        blocks: the frozen blocks: ``none``, ``all``, a block's name (that block and all below it), or -n (all but
            the last n blocks).
        batch_norm: the trained part of the other blocks: everything (``with_block``), BatchNorm alone (``only``),
            or everything but BatchNorm (``never``).

    Raises:
        UserError: there is no such block, or no BatchNorm for ``only``.
    """
    named = backbone.blocks()
    trained = {name for block in trained_blocks(backbone, blocks) for name in named[block]}
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


def trained_blocks(backbone: Backbone, blocks: str | int) -> list[str]:
    """Return the names of the blocks that are not frozen; see ``freeze``."""
    names = [*backbone.blocks()]
    return names[_frozen_count(blocks, names, backbone.name) :]


def _frozen_count(blocks: str | int, names: list[str], backbone: str) -> int:
    """Return the number of frozen blocks, counted from the first."""
    if isinstance(blocks, int):
        if -len(names) <= blocks < 0:
            return len(names) + blocks
        raise UserError(
            f"stage: freeze={blocks}: -n freezes all but the last n of {backbone}'s {len(names)} blocks"
        )
    if blocks in ("none", "all"):
        return len(names) if blocks == "all" else 0
    if blocks not in names:
        raise UserError(f"stage: freeze={blocks}: give none, all, -1 or a block of {backbone}: {', '.join(names)}")
    return names.index(blocks) + 1


def keep_frozen_in_eval(module: nn.Module) -> None:
    """Put every part whose parameters are all frozen into eval mode.

    requires_grad_(False) alone does not freeze BatchNorm, which would still normalise by batches and update its
    statistics.
    """
    for part in module.children():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
        else:
            keep_frozen_in_eval(part)

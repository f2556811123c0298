"""Several models as one: the mean of their logits, classes matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.inference.model import Model


class Member(NamedTuple):
    """A model and what messages call it."""

    name: str
    model: Model


class Ensemble:
    """Models whose logits are averaged. Each is given a crop of its own framing.

    Args:
        members: one model or more; the first one's order of the classes is that of the probabilities.
        correct: name of a correction, which each model applies to its own logits; None: none.

    Raises:
        UserError: the models have different classes, or one has no such correction.
    """

    def __init__(self, members: Sequence[Member], correct: str | None = None) -> None:
        self.members, self.correct = list(members), correct
        self.classes = members[0].model.classes
        for name, model in members[1:]:
            if differing := set(self.classes) ^ set(model.classes):
                raise UserError(
                    f"{name}: has other classes than {members[0].name}: only one of them has "
                    f"{', '.join(sorted(differing))}; models that are averaged must have the same"
                )
        self._orders = [[model.classes.index(name) for name in self.classes] for _, model in members]
        if correct is not None:
            for name, model in members:
                try:
                    model.correct(torch.zeros(1, len(model.classes)).double(), correct)
                except UserError as error:
                    raise UserError(f"{name}: {error}") from error

    def probabilities(self, crops: Sequence[Tensor]) -> Tensor:
        """Return class probabilities (N, C) in double precision on the CPU.

        Args:
            crops: for each model the crops (N, 3, S, S) as it prepares them.
        """
        logits = [
            model.final_logits(batch, self.correct)[:, order]
            for (_, model), batch, order in zip(self.members, crops, self._orders, strict=True)
        ]
        return torch.stack(logits).mean(0).softmax(1)

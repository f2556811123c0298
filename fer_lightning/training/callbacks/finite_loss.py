"""A stage whose loss is not finite is ended, with where that came from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning.core.errors import RunFailed, Stopped
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.training.distributed import sum_over_ranks

NAMED = 5
"""How many samples are named whose loss is not finite."""


@dataclass(frozen=True)
class _Batch:
    """A batch whose loss is yet to be looked at.

    Attributes:
        index: in the epoch.
        outputs: of the training step.
        failures: on how many ranks the loss is not finite; on its way to the CPU.
        arrived: when it is there; None: at once.
    """

    index: int
    outputs: dict[str, Any]
    failures: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def sent_for(cls, index: int, outputs: dict[str, Any]) -> _Batch:
        """Ask for the failures without waiting for them."""
        failures = sum_over_ranks((~outputs["loss"].isfinite()).int())
        there = failures.to("cpu", non_blocking=True)  # into pinned memory, if it comes from a GPU
        arrived = torch.cuda.current_stream().record_event() if failures.is_cuda else None
        watched = {name: outputs[name] for name in ("loss", "per_sample", "terms", "penalty")}
        return cls(index, watched, there, arrived)

    @property
    def failed(self) -> bool:
        """Whether the loss is not finite on some rank."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return bool(self.failures)


class FiniteLoss(Callback):
    """Ends a stage whose loss is not finite, before its weights are kept, and says where that came from.

    All ranks end at the same batch, so that none waits for another; each tells of its own samples.

    Args:
        stage: its name.
        last: the checkpoint after the last whole epoch.
        late: by how many batches a loss is looked at later than it could be: 1 for a GPU, which is at work on the
            next batch meanwhile. At the epoch's end none is left.
    """

    def __init__(self, stage: str, last: Path, late: int = 0) -> None:
        self.stage = stage
        self.last = last
        self.late = late
        self.unseen: deque[_Batch] = deque()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for this batch's loss, and look at those that are due."""
        self.unseen.append(_Batch.sent_for(batch_idx, outputs))
        self._look(trainer, self.late)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at all: no spoiled network is validated."""
        self._look(trainer, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at all, also where nothing was validated: no spoiled network is kept."""
        self._look(trainer, 0)

    def _look(self, trainer: Trainer, late: int) -> None:
        while len(self.unseen) > late:
            batch = self.unseen.popleft()
            if batch.failed and batch.outputs["loss"].isfinite():
                raise Stopped(f"{self._place(trainer, batch)}: the loss is not finite on another rank")
            if batch.failed:
                raise RunFailed(f"{self._place(trainer, batch)}: {self._account(trainer, batch)}")

    def _place(self, trainer: Trainer, batch: _Batch) -> str:
        """Which step of which epoch it was."""
        parts, ranks = trainer.accumulate_grad_batches, trainer.world_size
        step, part = divmod(batch.index, parts)
        return (
            f"{self.stage}: step {step + 1} of {int(trainer.num_training_batches) // parts}"
            f" in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            + (f", micro-batch {part + 1} of {parts}" if parts > 1 else "")
            + (f", rank {trainer.global_rank} of {ranks}" if ranks > 1 else "")
        )

    def _account(self, trainer: Trainer, batch: _Batch) -> str:
        """What is not finite, of which samples, and what to do about it."""
        loss, per_sample = batch.outputs["loss"], batch.outputs["per_sample"]
        terms = {**batch.outputs["terms"], "penalty": batch.outputs["penalty"]}
        means = ", ".join(f"{name} {term.double().mean():.4g}" for name, term in terms.items())
        wrong = (~per_sample.isfinite()).nonzero().flatten().tolist()
        names = _names(trainer, batch.index, wrong)
        told = f": {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}" if names else ""
        kept = (
            f"; the state after epoch {trainer.current_epoch} is kept: {self.last}" if self.last.exists() else ""
        )
        return (
            f"the loss is {loss:.4g} ({means}), not finite for {len(wrong)} of {len(per_sample)} samples{told}; "
            f"lower optimizer.lr or loss.weight{kept}"
        )


def _names(trainer: Trainer, index: int, positions: list[int]) -> list[str]:
    """Ids and classes of the pictures at some positions of this epoch's batch ``index``, each once."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, FaceDataModule)
    picks = next(islice(data.batches().of(trainer.current_epoch), index, None))
    ids, labels = data.ids("train"), data.labels("train")
    pictures = dict.fromkeys(picks[position].picture for position in positions)
    return [f"{ids[picture]} ({data.store.classes[labels[picture]]})" for picture in pictures]

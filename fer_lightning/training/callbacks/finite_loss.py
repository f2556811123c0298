"""Callback that ends a stage whose loss is not finite, and reports the cause."""

from __future__ import annotations

import math
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
from fer_lightning.training.module import MINIVAL_LOSS

NAMED = 5
"""At most so many samples whose loss is not finite are named."""


@dataclass(frozen=True)
class _Batch:
    """Batch whose loss has not been checked yet.

    Attributes:
        index: index in the epoch.
        outputs: outputs of the training step.
        failures: number of ranks whose loss is not finite; on its way to the CPU.
        arrived: event of its arrival on the CPU; None: it has arrived.
    """

    index: int
    outputs: dict[str, Any]
    failures: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def request(cls, index: int, outputs: dict[str, Any]) -> _Batch:
        """Request the number of failures without waiting for it."""
        failures = sum_over_ranks((~outputs["loss"].isfinite()).int())
        on_cpu = failures.to("cpu", non_blocking=True)  # in pinned memory, if it comes from a GPU
        arrived = torch.cuda.current_stream().record_event() if failures.is_cuda else None
        needed = {name: outputs[name] for name in ("loss", "per_sample", "terms", "penalty")}
        return cls(index, needed, on_cpu, arrived)

    @property
    def failed(self) -> bool:
        """Return whether the loss is not finite on any rank."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return bool(self.failures)


class FiniteLoss(Callback):
    """Callback that ends a stage whose loss is not finite before it keeps the weights, and reports the cause.

    All ranks end at the same batch, so that none waits for another; each reports its own samples.

    Args:
        stage: name of the stage.
        last: path of the checkpoint after the last whole epoch.
        delay: number of batches by which the check of a loss is delayed: 1 for a GPU, which computes the next
            batch meanwhile. At the end of the epoch all losses are checked.
    """

    def __init__(self, stage: str, last: Path, delay: int = 0) -> None:
        self.stage = stage
        self.last = last
        self.delay = delay
        self.pending: deque[_Batch] = deque()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Request the check of this batch, and do those that are due."""
        self.pending.append(_Batch.request(batch_idx, outputs))
        self._check(trainer, self.delay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all batches, so that no network with nan is validated."""
        self._check(trainer, 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the loss on the minival: the last step may have made weights that give nan.

        It is the mean over all ranks, so that all end here.
        """
        loss = float(trainer.callback_metrics[MINIVAL_LOSS])
        if not math.isfinite(loss):
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            raise RunFailed(
                f"{self.stage}: {epoch}: the loss on the minival is {loss:.4g}; "
                f"lower optimizer.lr or loss.weight{self._kept(trainer)}"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all batches, so that no network with nan is kept even if it was not validated."""
        self._check(trainer, 0)

    def _check(self, trainer: Trainer, delay: int) -> None:
        while len(self.pending) > delay:
            batch = self.pending.popleft()
            if batch.failed and batch.outputs["loss"].isfinite():
                raise Stopped(f"{self._position(trainer, batch)}: the loss is not finite on another rank")
            if batch.failed:
                raise RunFailed(f"{self._position(trainer, batch)}: {self._cause(trainer, batch)}")

    def _position(self, trainer: Trainer, batch: _Batch) -> str:
        """Return stage, step and epoch of a batch."""
        parts, ranks = trainer.accumulate_grad_batches, trainer.world_size
        step, part = divmod(batch.index, parts)
        return (
            f"{self.stage}: step {step + 1} of {int(trainer.num_training_batches) // parts}"
            f" in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            + (f", micro-batch {part + 1} of {parts}" if parts > 1 else "")
            + (f", rank {trainer.global_rank} of {ranks}" if ranks > 1 else "")
        )

    def _cause(self, trainer: Trainer, batch: _Batch) -> str:
        """Return which part of the loss is not finite, for which samples, and what to do about it."""
        loss, per_sample = batch.outputs["loss"], batch.outputs["per_sample"]
        terms = {**batch.outputs["terms"], "penalty": batch.outputs["penalty"]}
        means = ", ".join(f"{name} {term.double().mean():.4g}" for name, term in terms.items())
        wrong = (~per_sample.isfinite()).nonzero().flatten().tolist()
        names = _names(trainer, batch.index, wrong)
        named = f": {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}" if names else ""
        return (
            f"the loss is {loss:.4g} ({means}), not finite for {len(wrong)} of {len(per_sample)} samples{named}; "
            f"lower optimizer.lr or loss.weight{self._kept(trainer)}"
        )

    def _kept(self, trainer: Trainer) -> str:
        """Return where the state after the epoch before is, for the end of a message."""
        if not self.last.exists():
            return ""
        return f"; the state after epoch {trainer.current_epoch} is kept: {self.last}"


def _names(trainer: Trainer, index: int, positions: list[int]) -> list[str]:
    """Return ids and classes of the pictures at ``positions`` of batch ``index`` of this epoch, each once."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, FaceDataModule)
    picks = next(islice(data.batches().of(trainer.current_epoch), index, None))
    ids, labels = data.ids("train"), data.labels("train")
    pictures = dict.fromkeys(picks[position].picture for position in positions)
    return [f"{ids[picture]} ({data.store.classes[labels[picture]]})" for picture in pictures]

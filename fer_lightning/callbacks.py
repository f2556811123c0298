"""What watches a fit: a tidy line an epoch, whether the loss is finite, and where the centers are."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed
from torch.nn import functional as F

from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.errors import CellFailed, Stopped
from fer_lightning.features import center_drift
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.module import MONITOR, FERModule

log = logging.getLogger(__name__)

NAMED = 5
"""How many samples are named whose loss is not finite."""


class EpochLine(Callback):
    """One line an epoch: which of how many, the minival's macro recall, the time left in this stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the fit has taken so far, the time before an interruption included."""
        return time.monotonic() - self.begin

    def state_dict(self) -> dict[str, Any]:
        """The time taken."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.begin -= state_dict["seconds"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        done = trainer.current_epoch + 1
        total = trainer.max_epochs or done
        left = self.seconds / done * (total - done)
        score = float(trainer.callback_metrics[MONITOR])
        if trainer.is_global_zero:
            log.info("%s: epoch %d of %d, %s %.3f, %.0f s left", self.stage, done, total, MONITOR, score, left)


class EndAtOnce(Callback):
    """SIGTERM ends the process at once, as everywhere else: what a fit goes on from is on disk.

    Lightning's own handler, put in place after on_fit_start, would wait for the batch, and for the other ranks.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handler back that was there before the Trainer."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class Reseed(Callback):
    """Seeds each epoch anew, so that dropout draws after an interruption what it would have drawn without.

    Args:
        seed: the cell's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch by seed, epoch and rank before the first batch, when the loaders have drawn theirs."""
        if batch_idx == 0:
            sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
            torch.manual_seed(int(sequence.generate_state(1)[0]))


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
        failures = _over_ranks((~outputs["loss"].isfinite()).int())
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
    """Ends a fit whose loss is not finite, before its weights are kept, and says where that came from.

    All ranks end at the same batch, so that none waits for another; each tells of its own samples.

    Args:
        stage: the fit's name.
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
                raise CellFailed(f"{self._place(trainer, batch)}: {self._account(trainer, batch)}")

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


class CenterMonitor(Callback):
    """Logs each center's drift and, for cluster loss, D_k by epoch.

    The class means it compares with are those of the epoch's augmented training batches, at no cost; the drift
    in result.json is computed afterwards, in eval mode and without augmentation.

    Args:
        names: class names.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.sums: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch to the class sums."""
        embeddings = outputs["embeddings"].double()
        members = F.one_hot(outputs["labels"], len(self.names)).to(embeddings.dtype).T
        sums = torch.cat([members @ embeddings, members.sum(1, keepdim=True)], 1)
        self.sums = sums if self.sums is None else self.sums + sums

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and start anew."""
        assert self.sums is not None
        assert isinstance(pl_module, FERModule)
        sums, self.sums = self.sums, None
        _over_ranks(sums)
        totals, counts = sums[:, :-1], sums[:, -1:]
        head: Any = pl_module.network.head
        centers = head.centers.detach().double()
        drift = center_drift(centers, totals / counts.clamp(min=1), totals.sum(0) / counts.sum())
        for k, name in enumerate(self.names):
            pl_module.log(f"center_drift/{name}", drift[k].float())
        if isinstance(head, ClusterHead):
            for k, spread in enumerate(head.spread(centers)):
                pl_module.log(f"center_spread/{self.names[k]}", spread.float())


def _over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place, without waiting for a GPU."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values

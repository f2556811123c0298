"""What a run needs before anything is trained: its data, its pre-trained backbone, and which run it is."""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.core.progress import Line
from fer_lightning.data import dataset
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.forward_pass import Pass, state_hash
from fer_lightning.models.freeze import freeze
from fer_lightning.run import build, build_loss
from fer_lightning.training import distributed

log = logging.getLogger(__name__)


@dataclass
class RunSetup:
    """What a run needs before anything is trained.

    Attributes:
        config: resolved and checked.
        backbone: with the weights that the first stage starts from.
        pretrained: hash of those weights.
        data: the faces and their split.
        protocol: what must be equal for numbers to be comparable.
        how: device and precision of passes outside a Trainer.
    """

    config: dict[str, Any]
    backbone: Backbone
    pretrained: str
    data: FaceDataModule
    protocol: dict[str, Any]
    how: Pass

    @property
    def stats(self) -> ClassStats:
        """The classes and their counts."""
        return self.data.class_stats


def set_up(config: dict[str, Any], *, to_train: bool = True) -> RunSetup:
    """Load the backbone's weights, prepare the faces, and find out which run this is.

    Args:
        config: as from ``compose``.
        to_train: or only to know the run, on a machine that may lack the GPU that it is for.

    Raises:
        UserError: something the user can mend; nothing has been trained.
    """
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    if to_train and settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer: there is no CUDA device here; choose trainer=cpu")
    if to_train and settings.device == "cuda":
        distributed.take_gpu()
    build.sampler(config)  # these refuse what makes no sense before the data is touched
    build.augmentation(config)
    build_loss.try_out(config)
    stages = build.stages(config)
    backbone = build.backbone(config, pretrained=any(stage.pretrained for _, stage in stages))
    classes = ClassStats(tuple(config["data"]["classes"]), (1,) * len(config["data"]["classes"]))
    for _, stage in stages:
        freeze(backbone, stage.freeze, stage.batch_norm)
        build.recipe(config, stage)
        build.views(config, stage)
        build.network(config, stage, backbone, backbone.num_features, classes)
    prepared = dataset.store(config, Line("faces"))
    data = build.data(config, prepared)
    try:
        data.batches()  # an epoch must have one
    except ValueError as error:
        raise UserError(str(error)) from error
    backbone.complete()
    protocol = build.protocol(config, prepared, minival_hash(data), backbone)
    how = Pass(settings.device, settings.precision, settings.channels_last)
    pretrained = state_hash(how.place(backbone)) if to_train else ""
    return RunSetup(config, backbone, pretrained, data, protocol, how)


def minival_hash(data: FaceDataModule) -> str:
    """SHA-256 of the rows that are held out."""
    return hashlib.sha256(data.minival_rows.tobytes()).hexdigest()


def tell_data(data: FaceDataModule) -> None:
    """Say what is trained on, and what was left out of it."""
    meta = data.store.meta
    counts = ", ".join(f"{name} {n}" for name, n in zip(meta.classes, data.images, strict=True))
    log.info("training on %s", counts)
    log.info("minival %d, test %d", len(data.minival_rows), sum(meta.counts["test"].values()))
    if dropped := sum(meta.dropped_leaks.values()):
        log.info("%d training images dropped: each is pixel-identical to a test image", dropped)
    for fault in meta.faults[:5]:
        log.info("set aside: %s: %s, %s", fault.path, fault.kind, fault.detail)
    if len(meta.faults) > 5:
        log.info("and %d more set aside; %s names all", len(meta.faults) - 5, data.store.folder / "store.json")


def hush() -> None:
    """Leave out what a user need not read: Lightning's hints, and what the first rank says already."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)
    if not distributed.is_first():
        logging.getLogger("fer_lightning").setLevel(logging.ERROR)

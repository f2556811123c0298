"""What a run needs before anything is trained: its data, its pre-trained backbone, and which run it is."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.config.instantiate import is_own
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.core.progress import Line
from fer_lightning.data import dataset
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.samplers import Views
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.forward_pass import Pass, state_hash
from fer_lightning.models.freeze import freeze
from fer_lightning.run import build, build_loss
from fer_lightning.run.build_loss import Loss
from fer_lightning.training import distributed
from fer_lightning.training.mixing import Mixing
from fer_lightning.training.optimizers import Recipe
from fer_lightning.training.stage import Stage
from fer_lightning.training.trainer import TrainerSettings

log = logging.getLogger(__name__)


@dataclass
class EvaluationSetup:
    """What the test of a model needs.

    Attributes:
        config: resolved and checked.
        data: the faces and their split.
        protocol: what must be equal for numbers to be comparable.
        how: device and precision of passes outside a Trainer.
        shared_weights: hash of the backbone's weights as long as they are those that other runs start from, too,
            so that its embeddings are kept; None otherwise.
    """

    config: dict[str, Any]
    data: FaceDataModule
    protocol: dict[str, Any]
    how: Pass
    shared_weights: str | None

    @property
    def stats(self) -> ClassStats:
        """The classes and their counts."""
        return self.data.class_stats


@dataclass
class StageSetup:
    """A stage of a run and what it is trained with.

    Attributes:
        name: of the stage.
        stage: its options.
        recipe: how it is optimised.
        views: augmented views that a frozen backbone sees; None: pictures as they are.
    """

    name: str
    stage: Stage
    recipe: Recipe
    views: Views | None


@dataclass
class RunSetup(EvaluationSetup):
    """What a run needs before anything is trained: each part is built once.

    Attributes:
        settings: the Trainer's.
        stages: in order.
        backbone: with the weights that the first stage starts from.
        neck: as every stage without an earlier one starts with.
        heads: by what a stage says of its loss, likewise.
        class_weights: w (C,).
        mixing: of training pictures; None: they are not mixed.
    """

    settings: TrainerSettings
    stages: list[StageSetup]
    backbone: Backbone
    neck: nn.Module
    heads: dict[Loss, nn.Module]
    class_weights: Tensor
    mixing: Mixing | None


def set_up(config: dict[str, Any], *, to_train: bool = True) -> RunSetup:
    """Load the backbone's weights, prepare the faces, and build all that is trained.

    Args:
        config: as from ``compose``.
        to_train: or only to know the run, on a machine that may lack the GPU that it is for.

    Raises:
        UserError: something the user can mend; nothing has been trained.
    """
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    if to_train and settings.device == "cuda":
        distributed.take_gpu()
    draw, augment, mixing = build.sampler(config), build.augmentation(config), build.mixing(config)
    stages = [
        StageSetup(name, stage, build.recipe(config, stage), build.views(config, stage, augment))
        for name, stage in build.stages(config).items()
    ]
    backbone = build.backbone(config, pretrained=any(setup.stage.pretrained for setup in stages))
    for setup in stages:
        freeze(backbone, setup.stage.freeze, setup.stage.batch_norm)
    assumed, progress = build_loss.assumed_stats(config), Line("faces")
    own = any(is_own(config[group]) for group in ("neck", "loss", "class_weights"))
    if own:  # code that nobody has tried: before the data is read
        _neck_heads_and_weights(config, stages, backbone, assumed)
    manifest = dataset.manifest(config, progress)
    if not own and dataset.missing_bytes(config, manifest):  # which may take an hour
        _neck_heads_and_weights(config, stages, backbone, assumed)
    store = dataset.store(config, progress, manifest)
    data = build.data(config, store, draw, augment)
    try:
        data.batches()  # an epoch must have one
    except ValueError as error:
        raise UserError(str(error)) from error
    neck, heads, weights = _neck_heads_and_weights(config, stages, backbone, data.class_stats)
    if mixing:
        _refuse_hard_labels(config, stages, heads)
    backbone.complete()
    protocol = build.protocol(config, store, minival_hash(data), backbone)
    how = Pass(settings.device, settings.precision, settings.channels_last)
    shared = state_hash(how.place(backbone)) if to_train else None
    return RunSetup(config, data, protocol, how, shared, settings, stages, backbone, neck, heads, weights, mixing)


def _neck_heads_and_weights(
    config: dict[str, Any], stages: Sequence[StageSetup], backbone: Backbone, stats: ClassStats
) -> tuple[nn.Module, dict[Loss, nn.Module], Tensor]:
    losses = [setup.stage.loss for setup in stages]
    neck, heads = build.neck_and_heads(config, losses, backbone.num_features, stats)
    return neck, heads, build_loss.class_weights(config, stats)


def _refuse_hard_labels(
    config: dict[str, Any], stages: Sequence[StageSetup], heads: dict[Loss, nn.Module]
) -> None:
    for setup in stages:
        head = heads[setup.stage.loss]
        if not setup.stage.from_embeddings and not getattr(head, "soft_labels", False):
            raise UserError(
                f"mixing={config['choices']['mixing']}: {type(head).__name__} takes class indices, and mixed "
                "pictures have soft labels; choose mixing=none, or a loss such as softmax or balanced_softmax"
            )


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

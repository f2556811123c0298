"""Set-up of a run before training: its data, its networks, and its protocol."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
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
from fer_lightning.data.store.store import Store
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.forward_pass import Pass, state_hash
from fer_lightning.models.freeze import freeze
from fer_lightning.models.last_block import require_split
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
    """Everything that the test of a model needs.

    Attributes:
        config: resolved and checked config.
        data: faces and their split.
        protocol: values that must be equal for results to be comparable.
        forward_pass: device and precision of forward passes outside a Trainer.
        shared_weights: hash of the backbone's weights as long as other runs start from the same ones, so that its
            embeddings are kept; None otherwise.
    """

    config: dict[str, Any]
    data: FaceDataModule
    protocol: dict[str, Any]
    forward_pass: Pass
    shared_weights: str | None

    @property
    def stats(self) -> ClassStats:
        """Return the classes and their counts in the training part."""
        return self.data.class_stats


@dataclass
class StageSetup:
    """Stage of a run, and the objects that it is trained with.

    Attributes:
        name: name of the stage.
        stage: options of the stage.
        recipe: optimizer and schedule.
        views: fixed augmented views of the training pictures; None: see Stage.
    """

    name: str
    stage: Stage
    recipe: Recipe
    views: Views | None


@dataclass
class RunSetup(EvaluationSetup):
    """Everything that a run needs before training; each part is built once.

    Attributes:
        settings: settings of the Trainer.
        stages: stages in order.
        backbone: backbone with the weights that the first stage starts from.
        neck: neck with its initial weights.
        heads: heads with their initial weights, by the ``loss`` of a stage.
        class_weights: class weights w (C,).
        mixing: mixes training pictures; None: no mixing.
    """

    settings: TrainerSettings
    stages: list[StageSetup]
    backbone: Backbone
    neck: nn.Module
    heads: dict[Loss, nn.Module]
    class_weights: Tensor
    mixing: Mixing | None


def set_up(config: dict[str, Any], *, to_train: bool = True, prepared: Store | None = None) -> RunSetup:
    """Load the weights of the backbone, prepare the faces, and build everything that is trained.

    Args:
        config: config from ``compose``.
        to_train: whether to train the run, and not only to identify it on a machine that may lack its GPU.
        prepared: faces that were prepared when the run was planned; None: the data set is read here.

    Raises:
        UserError: a mistake of the user; nothing has been trained.
    """
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    if to_train and settings.device == "cuda":
        distributed.select_gpu()
    draw, augment, mixing = build.sampler(config), build.augmentation(config), build.mixing(config)
    stages = [
        StageSetup(name, stage, build.recipe(config, stage), build.views(config, stage, augment))
        for name, stage in build.stages(config).items()
    ]
    backbone = build.backbone(config, pretrained=any(setup.stage.pretrained for setup in stages))
    for setup in stages:
        freeze(backbone, setup.stage.freeze, setup.stage.batch_norm)
        if setup.stage.from_activations:
            require_split(backbone, setup.stage.freeze, build.pictures(config))
    assumed, progress = build_loss.assumed_stats(config), Line("faces")
    users_code = any(is_own(config[group]) for group in ("neck", "loss", "class_weights"))
    if users_code:  # untested code is tried before the data is read
        _trained_parts(config, stages, backbone, assumed)
    if prepared is None:
        manifest = dataset.manifest(config, progress)
        if not users_code and dataset.missing_bytes(config, manifest):  # preparing the faces may take an hour
            _trained_parts(config, stages, backbone, assumed)
        prepared = dataset.store(config, progress, manifest)
    data = build.data(config, prepared, draw, augment)
    try:
        data.batches()  # refuses an epoch without a batch
    except ValueError as error:
        raise UserError(str(error)) from error
    if not len(data.minival_rows):
        raise UserError(
            f"data.minival={data.options.minival}: no picture can be held out to choose epochs by: all training "
            "pictures are of one person or sequence, which is never divided; add others, or change data.group"
        )
    neck, heads, weights = _trained_parts(config, stages, backbone, data.class_stats)
    backbone.complete()
    protocol = build.protocol(config, prepared, minival_hash(data), backbone)
    forward_pass = Pass(settings.device, settings.precision, settings.channels_last)
    shared = state_hash(forward_pass.place(backbone)) if to_train else None
    return RunSetup(
        config, data, protocol, forward_pass, shared, settings, stages, backbone, neck, heads, weights, mixing
    )


def _trained_parts(
    config: dict[str, Any], stages: Sequence[StageSetup], backbone: Backbone, stats: ClassStats
) -> tuple[nn.Module, dict[Loss, nn.Module], Tensor]:
    """Build the neck, the heads by their ``loss``, and the class weights."""
    losses = [setup.stage.loss for setup in stages]
    neck, heads = build.neck_and_heads(config, losses, backbone.num_features, stats)
    if config["choices"]["mixing"] != "none":
        _require_soft_labels(config, stages, heads)
    return neck, heads, build_loss.class_weights(config, stats)


def _require_soft_labels(
    config: dict[str, Any], stages: Sequence[StageSetup], heads: dict[Loss, nn.Module]
) -> None:
    for setup in stages:
        head = heads[setup.stage.loss]
        if setup.stage.through_pictures and not getattr(head, "soft_labels", False):
            raise UserError(
                f"mixing={config['choices']['mixing']}: {type(head).__name__} takes class indices, and mixed "
                "pictures have soft labels; choose mixing=none, or a loss such as softmax or balanced_softmax"
            )


def minival_hash(data: FaceDataModule) -> str:
    """Return the SHA-256 of the rows of the minival."""
    return hashlib.sha256(data.minival_rows.tobytes()).hexdigest()


def log_data(data: FaceDataModule) -> None:
    """Log the numbers of pictures, and which pictures are left out."""
    meta = data.store.meta
    if not data.images.any():
        log_test_data(data)
        return
    log.info("training on %s", _listed(dict(zip(meta.classes, data.images, strict=True))))
    log.info("minival %d, test %d", len(data.minival_rows), sum(meta.counts["test"].values()))
    if dropped := sum(meta.dropped_leaks.values()):
        log.info("%d training images dropped: each is pixel-identical to a test image", dropped)
    if meta.near_copies:
        log.info("%d training images look like an earlier one; such images stay on one side", meta.near_copies)
    _log_faults(data)


def log_test_data(data: FaceDataModule) -> None:
    """Log the numbers of test pictures, and which are left out."""
    meta = data.store.meta
    counts = {name: n for name, n in meta.counts["test"].items() if n}
    log.info("testing on %s (%s): %s", meta.name, meta.tested_on, _listed(counts))
    if left_out := meta.skipped.get("test"):
        log.info("%d rows left out of the test: %s", sum(left_out.values()), _listed(left_out))
    _log_faults(data)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _log_faults(data: FaceDataModule) -> None:
    meta = data.store.meta
    if meta.unread:
        log.info("%s", meta.unread)
    for fault in meta.faults[:5]:
        log.info("set aside: %s", fault)
    if len(meta.faults) > 5:
        log.info("and %d more set aside; %s names all", len(meta.faults) - 5, data.store.folder / "store.json")


def quiet_logs() -> None:
    """Suppress Lightning's hints and warnings, and the log messages of all ranks but the first."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)
    if not distributed.is_first():
        logging.getLogger("fer_lightning").setLevel(logging.ERROR)

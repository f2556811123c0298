"""Config -> objects: the only place that instantiates. Configs are resolved plain values, checked beforehand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from fer_lightning import objective
from fer_lightning.cache import home
from fer_lightning.config import arguments, data_parts, make, target
from fer_lightning.contracts import ClassStats
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.prepare import disk_estimate, is_prepared, prepare
from fer_lightning.data.samplers import Draw
from fer_lightning.data.store import Store
from fer_lightning.errors import UserError
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.network import Network
from fer_lightning.optim import BuildOptimizer
from fer_lightning.stages import Fit, TrainerSettings

Config = dict[str, Any]


def manifest(config: Config, progress: Callable[[int, int], None] | None = None) -> Manifest:
    """What the data set's annotations say."""
    options = data_parts(config["data"])["reader"]
    made: Manifest = target("data", config["data"])(**options, progress=progress)
    return made


def store(config: Config, progress: Callable[[int, int], None] | None = None) -> Store:
    """Prepare the data set's faces, or open them where that was done before."""
    options = data_parts(config["data"])["prepare"]
    try:
        return prepare(manifest(config, progress), _stores(config), **options, progress=progress)
    except ValueError as error:
        raise UserError(f"data: {error}") from error


def missing_bytes(config: Config, found: Manifest) -> int:
    """Disk that preparing a manifest's faces will need: nothing where it was done before."""
    options = data_parts(config["data"])["prepare"]
    if is_prepared(found, _stores(config), **options):
        return 0
    return disk_estimate(found.rows.num_rows, options["size"], options["codec"])


def _stores(config: Config) -> Path:
    return Path(config["data"]["store"] or home() / "stores").expanduser()


def sampler(config: Config) -> Draw:
    """What draws an epoch's pictures, tried on one of each class: wrong numbers are found before any training."""
    draw: Draw = partial(target("sampler", config["sampler"]), **arguments(config["sampler"]))
    try:
        draw(np.arange(len(config["data"]["classes"])), np.random.default_rng(0), 0.0)
    except ValueError as error:
        raise UserError(f"sampler: {error}") from error
    return draw


def data(config: Config, faces: Store) -> FaceDataModule:
    """The datamodule over prepared faces."""
    options = data_parts(config["data"])["batches"]
    augment = make("transform", config["transform"])
    try:
        return FaceDataModule(faces, **options, draw=sampler(config), augment=augment, seed=config["seed"])
    except ValueError as error:
        raise UserError(f"data: {error}") from error


def backbone(config: Config, *, pretrained: bool = True) -> Backbone:
    """The backbone, with its weights or with random ones drawn from the cell's seed."""
    torch.manual_seed(config["seed"])
    made: Backbone = make("backbone", config["backbone"], pretrained=pretrained)
    return made


def network(config: Config, fit: Fit, base: nn.Module, feature_dim: int, stats: ClassStats) -> Network:
    """``base`` with a new neck and the head of this fit, drawn from the cell's seed."""
    torch.manual_seed(config["seed"])
    neck = make("neck", config["neck"], feature_dim)
    return Network(base, neck, objective.head(config, fit.loss, neck.num_features, stats))


def optimizer(config: Config, fit: Fit) -> BuildOptimizer:
    """What builds optimizer and schedule for a fit."""
    node = dict(config["optimizer"])
    own = {**arguments(node), "lr": node["lr"] * fit.lr_scale}
    return partial(target("optimizer", node), **own)


def trainer(config: Config) -> TrainerSettings:
    """How and where to train."""
    made: TrainerSettings = make("trainer", config["trainer"])
    return made


def logger(config: Config, directory: Path, fit: str) -> Logger | bool:
    """The logger of one fit."""
    made: Logger | bool = make("logger", config["logger"], directory, fit, config)
    return made


def fits(config: Config) -> list[tuple[str, Fit]]:
    """The stage's fits by name, in order."""
    nodes = {name: node for name, node in config["stage"].items() if isinstance(node, dict)}
    return [(name, make(f"stage.{name}", node)) for name, node in nodes.items()]


def card(config: Config, base: Backbone, stats: ClassStats, protocol: Config) -> Config:
    """What a checkpoint tells of its network, as plain values: enough to rebuild it without this config."""
    neck, head = config["neck"], config["loss"]
    return {
        "backbone": base.spec,
        "neck": {"class": neck["_target_"].rpartition(".")[2], "arguments": arguments(neck)},
        "head": {"class": ".".join(head["_target_"].rsplit(".", 2)[1:]), "arguments": arguments(head)},
        "class_stats": {"names": list(stats.names), "counts": list(stats.counts)},
        "protocol": protocol,
        "config": config,
    }


def protocol(config: Config, faces: Store, minival_hash: str, base: Backbone) -> Config:
    """What must be equal for two numbers to be comparable."""
    return {
        "data": faces.meta.name,
        "classes": list(faces.classes),
        "manifest": faces.meta.manifest_hash,
        "faces": faces.hash,
        "minival": minival_hash,
        "test_split": config["data"]["test_split"],
        "size": faces.meta.size,
        "margin": faces.meta.margin,
        "colour": "RGB",
        "backbone": base.spec["name"],
        "backbone_weights": base.weights_hash,
    }

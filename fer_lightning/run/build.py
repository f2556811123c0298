"""Config -> objects: the only place that instantiates. Configs are resolved plain values, checked beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fer_lightning.config.identity import NUMERICS
from fer_lightning.config.instantiate import arguments, is_own, make, target
from fer_lightning.core import versions
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError, in_one_line
from fer_lightning.core.files import content_hash
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.options import BatchOptions, select
from fer_lightning.data.samplers import Draw, Views
from fer_lightning.data.store.store import Store
from fer_lightning.data.transforms import Augmentation
from fer_lightning.models.backbone import Backbone, OwnBackbone
from fer_lightning.models.forward_pass import fixed_hash
from fer_lightning.run.build_loss import Loss, head
from fer_lightning.training.loggers.run_logger import RunLogger
from fer_lightning.training.loggers.run_summary import about
from fer_lightning.training.mixing import Mixing
from fer_lightning.training.optimizers import Recipe
from fer_lightning.training.schedules import over_steps
from fer_lightning.training.stage import Stage
from fer_lightning.training.trainer import TrainerSettings

Config = dict[str, Any]


def input_side(config: Config) -> int:
    """Side of the pictures that the network sees, in pixels."""
    side: int = config["data"].get("crop") or config["data"]["size"]
    return side


def sampler(config: Config) -> Draw:
    """What draws an epoch's pictures, tried on one of each class: mistakes are found before any training.

    Raises:
        UserError: a number makes no sense, or a sampler of the user's own fails or returns no indices.
    """
    node = config["sampler"]
    draw: Draw = partial(target("sampler", node), **arguments(node))
    pictures = len(config["data"]["classes"])
    with in_one_line("sampler", own=is_own(node)):
        order = draw(np.arange(pictures), np.random.default_rng(0), 0.0)
    if (
        not isinstance(order, np.ndarray)
        or order.dtype.kind != "i"
        or not np.isin(order, np.arange(pictures)).all()
    ):
        raise UserError(
            f"sampler: {node['_target_']} must return an array of indices into the labels, not {order!r}"
        )
    return draw


def augmentation(config: Config) -> Augmentation | None:
    """How training pictures are moved and altered; None: not at all."""
    made: Augmentation | None = make("transform", config["transform"])
    return made


def mixing(config: Config) -> Mixing | None:
    """Build what mixes the training pictures of a batch; None: nothing does."""
    built: Mixing | None = make("mixing", config["mixing"])
    return built


def data(config: Config, faces: Store, draw: Draw, augment: Augmentation | None) -> FaceDataModule:
    """Build the datamodule over prepared faces.

    Raises:
        UserError: a number makes no sense.
    """
    try:
        options = BatchOptions(**select(BatchOptions, config["data"]))
        return FaceDataModule(faces, options, draw=draw, augment=augment, seed=config["seed"])
    except ValueError as error:
        raise UserError(f"data: {error}") from error


def backbone(config: Config, *, pretrained: bool = True) -> Backbone:
    """The backbone, with its weights or with random ones drawn from the run's seed.

    Raises:
        UserError: a value makes no sense, or the network does not do what a backbone must.
    """
    node = config["backbone"]
    torch.manual_seed(config["seed"])
    made: nn.Module = make("backbone", node, pretrained=pretrained)
    pictures = torch.zeros(2, 3, *[input_side(config)] * 2, dtype=torch.uint8)
    if isinstance(made, Backbone):
        _require_width(f"backbone.name={made.name}", made, pictures)
        return made
    _require_width(f"backbone: {node['_target_']}", made, pictures)
    torch.manual_seed(config["seed"] + 1)
    weights = fixed_hash(made, make("backbone", node, pretrained=pretrained))
    spec = {"class": node["_target_"], "arguments": arguments(node), "source": node["_source_"]}
    return OwnBackbone(made, {**spec, "weights_hash": weights if pretrained else None})


def neck_and_heads(
    config: Config, losses: Iterable[Loss], feature_dim: int, stats: ClassStats
) -> tuple[nn.Module, dict[Loss, nn.Module]]:
    """Build the neck and a head for each loss of the stages, drawn from the run's seed.

    Every head is drawn as if it were the only one, so that its weights do not depend on the other stages.

    Args:
        config: of the run.
        losses: of the stages.
        feature_dim: width of the backbone's embeddings.
        stats: the classes of the training part.

    Raises:
        UserError: a value makes no sense, or a neck or head of the user's own does not do what it must.
    """
    torch.manual_seed(config["seed"])
    neck = make("neck", config["neck"], feature_dim)
    if is_own(config["neck"]):
        _require_width(f"neck: {config['neck']['_target_']}", neck, torch.zeros(2, feature_dim))
    random_state = torch.get_rng_state()
    heads: dict[Loss, nn.Module] = {}
    for loss in dict.fromkeys(losses):
        torch.set_rng_state(random_state)
        heads[loss] = head(config, loss, neck.num_features, stats)
    return neck, heads


def _require_width(name: str, made: Any, batch: Tensor) -> None:
    """Try a copy of a network on two zeros."""
    width = getattr(made, "num_features", None)
    if not isinstance(made, nn.Module) or not isinstance(width, int):
        raise UserError(f"{name} must make a torch.nn.Module with num_features, the width of what it returns")
    with in_one_line(name, own=True), torch.no_grad():
        output = deepcopy(made).eval()(batch)
    if not isinstance(output, Tensor) or output.shape != (2, width):
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{name} must return (N, num_features) = (2, {width}) for {tuple(batch.shape)}, not {got}")


def own(config: Config) -> dict[str, Callable[..., nn.Module]]:
    """The classes and functions of the user's own that a network is made of, by the names that its card has."""
    nodes = {group: config[group] for group in ("backbone", "neck", "loss")}
    return {node["_target_"]: target(group, node) for group, node in nodes.items() if is_own(node)}


def recipe(config: Config, stage: Stage) -> Recipe:
    """How a stage is optimised.

    Raises:
        UserError: a number makes no sense.
    """
    node, schedule = arguments(config["optimizer"]), arguments(config["schedule"])
    of_recipe = {key: node.pop(key) for key in ("part_lr", "layer_decay", "ema_decay")}
    make_optimizer = partial(
        target("optimizer", config["optimizer"]), **{**node, "lr": node["lr"] * stage.lr_scale}
    )
    warmup = schedule.pop("warmup")
    with in_one_line("schedule", own=is_own(config["schedule"])):
        follow = partial(target("schedule", config["schedule"]), **schedule)
        over_steps(follow, warmup, 1)(1)
    with in_one_line("optimizer", own=False):
        return Recipe(make_optimizer, follow, warmup, **of_recipe)


def views(config: Config, stage: Stage, augment: Augmentation | None) -> Views | None:
    """The augmented views that a frozen backbone sees of the training pictures; None: it sees them as they are.

    Raises:
        UserError: there is nothing to augment them with.
    """
    if not stage.views:
        return None
    if augment is None:
        raise UserError(f"stage: views={stage.views} augmented views, but transform augments nothing; say views=0")
    return Views(stage.views, stage.views_seed, content_hash(config["transform"]))


def trainer(config: Config) -> TrainerSettings:
    """How and where to train."""
    made: TrainerSettings = make("trainer", config["trainer"])
    return made


def logger(config: Config, protocol: Config, directory: Path, *, trial: bool) -> RunLogger:
    """The logger of a run, or of a trial of one."""
    made: RunLogger = make("logger", config["logger"], directory, about(config, protocol, directory, trial=trial))
    return made


def stages(config: Config) -> dict[str, Stage]:
    """Build the stages by name, in order."""
    nodes = {name: node for name, node in config["stage"].items() if isinstance(node, dict)}
    return {name: make(f"stage.{name}", node) for name, node in nodes.items()}


def card(config: Config, base: Backbone, stats: ClassStats, protocol: Config) -> Config:
    """What a checkpoint tells of its network, as plain values: enough to rebuild it without this config."""
    neck, head = config["neck"], config["loss"]
    return {
        "backbone": base.spec,
        "neck": {"class": neck["_target_"], "arguments": arguments(neck)},
        "head": {"class": head["_target_"], "arguments": arguments(head)},
        "class_stats": {"names": list(stats.names), "counts": list(stats.counts)},
        "protocol": protocol,
        "versions": versions.versions(),
        "config": config,
    }


def protocol(config: Config, faces: Store, minival_hash: str, base: Backbone) -> Config:
    """What must be equal for two numbers to be comparable."""
    resized = base.spec.get("input_size")
    return {
        "data": faces.meta.name,
        "classes": list(faces.classes),
        "manifest": faces.meta.manifest_hash,
        "faces": faces.hash,
        "minival": minival_hash,
        "test_split": faces.meta.tested_on,
        "size": faces.meta.size,
        "margin": faces.meta.margin,
        "crop": input_side(config),
        **({"input_size": resized} if resized else {}),
        "flip_averaging": config["data"].get("flip_averaging", False),
        "colour": "RGB",
        "backbone": base.name,
        "backbone_weights": base.weights_hash,
        "numerics": NUMERICS,
    }

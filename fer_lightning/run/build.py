"""Builds the objects of a run from its config, which is resolved to plain values and checked beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast

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
from fer_lightning.data.samplers import Draw, Views, shuffle
from fer_lightning.data.store.meta import StoreMeta
from fer_lightning.data.store.store import Store
from fer_lightning.data.transforms import Augmentation
from fer_lightning.inference.card import FRAMING, framing
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
    """Return the side of the input pictures of the network, in pixels."""
    side: int = config["data"].get("crop") or config["data"]["size"]
    return side


def pictures(config: Config) -> Tensor:
    """Return two random uint8 pictures (2, 3, S, S) of the size that the network is given."""
    side, generator = input_side(config), torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)


def sampler(config: Config) -> Draw:
    """Build the sampler, and try it on one picture of each class to find mistakes before training.

    Raises:
        UserError: a number is out of range, or a sampler of the user's own fails or returns no indices.
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
    """Build the augmentation of training pictures; None: no augmentation."""
    built: Augmentation | None = make("transform", config["transform"])
    return built


def mixing(config: Config) -> Mixing | None:
    """Build the mixing of training pictures within a batch, and try a user's own on two; None: no mixing.

    Raises:
        UserError: a number is out of range, or a mixing of the user's own fails or returns something else.
    """
    node = config["mixing"]
    built: Mixing | None = make("mixing", node)
    if is_own(node):
        images, labels = torch.zeros(2, 3, 8, 8), torch.eye(2)
        with in_one_line(f"mixing: {node['_target_']}", own=True):
            mixed, targets = cast(Mixing, built)(images, labels)
            shapes = tuple(mixed.shape), tuple(targets.shape)
        if shapes != (images.shape, labels.shape):
            raise UserError(f"mixing: {node['_target_']} must return images and labels of the shapes it gets")
    return built


def data(
    config: Config, faces: Store, draw: Draw = shuffle, augment: Augmentation | None = None
) -> FaceDataModule:
    """Build the datamodule of prepared faces.

    Args:
        config: config of the run.
        faces: prepared faces.
        draw: sampler, of which only training has need.
        augment: augmentation, likewise.

    Raises:
        UserError: a number is out of range.
    """
    try:
        options = BatchOptions(**select(BatchOptions, config["data"]))
        return FaceDataModule(faces, options, draw=draw, augment=augment, seed=config["seed"])
    except ValueError as error:
        raise UserError(f"data: {error}") from error


def backbone(config: Config, *, pretrained: bool = True) -> Backbone:
    """Build the backbone, with pre-trained weights or with random ones from the seed of the run.

    Raises:
        UserError: a value is out of range, or the network does not return what a backbone must.
    """
    node = config["backbone"]
    torch.manual_seed(config["seed"])
    network: nn.Module = make("backbone", node, pretrained=pretrained)
    pictures = torch.zeros(2, 3, *[input_side(config)] * 2, dtype=torch.uint8)
    if isinstance(network, Backbone):
        _require_width(f"backbone.name={network.name}", network, pictures)
        return network
    _require_width(f"backbone: {node['_target_']}", network, pictures)
    torch.manual_seed(config["seed"] + 1)
    weights = fixed_hash(network, make("backbone", node, pretrained=pretrained))
    spec = {"class": node["_target_"], "arguments": arguments(node), "source": node["_source_"]}
    return OwnBackbone(network, {**spec, "weights_hash": weights if pretrained else None})


def neck_and_heads(
    config: Config, losses: Iterable[Loss], feature_dim: int, stats: ClassStats
) -> tuple[nn.Module, dict[Loss, nn.Module]]:
    """Build the neck, and a head for each loss of the stages, with random weights from the seed of the run.

    The weights of a head are drawn as if it were the only one, so that they do not depend on the other stages.

    Args:
        config: config of the run.
        losses: ``loss`` of each stage.
        feature_dim: size of the backbone's embeddings.
        stats: classes of the training part.

    Raises:
        UserError: a value is out of range, or a neck or head of the user's own does not return what it must.
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


def _require_width(name: str, network: Any, batch: Tensor) -> None:
    """Refuse a network that does not return (N, num_features) for a batch; a copy of it is tried."""
    width = getattr(network, "num_features", None)
    if not isinstance(network, nn.Module) or not isinstance(width, int):
        raise UserError(f"{name} must make a torch.nn.Module with num_features, the width of what it returns")
    with in_one_line(name, own=True), torch.no_grad():
        output = deepcopy(network).eval()(batch)
    if not isinstance(output, Tensor) or output.shape != (2, width):
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{name} must return (N, num_features) = (2, {width}) for {tuple(batch.shape)}, not {got}")


def users_classes(config: Config) -> dict[str, Callable[..., nn.Module]]:
    """Return the user's own classes and functions that a network consists of, by their names in its card."""
    nodes = {group: config[group] for group in ("backbone", "neck", "loss")}
    return {node["_target_"]: target(group, node) for group, node in nodes.items() if is_own(node)}


def recipe(config: Config, stage: Stage) -> Recipe:
    """Build optimizer and schedule of a stage.

    Raises:
        UserError: a number is out of range.
    """
    node, schedule = arguments(config["optimizer"]), arguments(config["schedule"])
    recipe_options = {key: node.pop(key) for key in ("part_lr", "layer_decay", "ema_decay")}
    make_optimizer = partial(
        target("optimizer", config["optimizer"]), **{**node, "lr": node["lr"] * stage.lr_scale}
    )
    warmup = schedule.pop("warmup")
    with in_one_line("schedule", own=is_own(config["schedule"])):
        follow = partial(target("schedule", config["schedule"]), **schedule)
        over_steps(follow, warmup, 1)(1)
    with in_one_line("optimizer", own=False):
        return Recipe(make_optimizer, follow, warmup, **recipe_options)


def views(config: Config, stage: Stage, augment: Augmentation | None) -> Views | None:
    """Return the fixed augmented views of training pictures that a stage shows in turn; None: it has none.

    Raises:
        UserError: there is no augmentation.
    """
    if not stage.views:
        return None
    if augment is None:
        raise UserError(f"stage: views={stage.views} needs an augmentation, and transform has none; set views=0")
    return Views(stage.views, stage.views_seed, content_hash(config["transform"]))


def trainer(config: Config) -> TrainerSettings:
    """Build the settings of the Trainer."""
    settings: TrainerSettings = make("trainer", config["trainer"])
    return settings


def logger(config: Config, protocol: Config, directory: Path, *, trial: bool) -> RunLogger:
    """Build the logger of a run, or of a trial of one."""
    summary = about(config, protocol, directory, trial=trial)
    run_logger: RunLogger = make("logger", config["logger"], directory, summary)
    return run_logger


def stages(config: Config) -> dict[str, Stage]:
    """Build the stages in order, by name."""
    nodes = {name: node for name, node in config["stage"].items() if isinstance(node, dict)}
    return {name: make(f"stage.{name}", node) for name, node in nodes.items()}


def card(config: Config, base: Backbone, stats: ClassStats, protocol: Config, faces: StoreMeta) -> Config:
    """Return the description of a network for its checkpoint: plain values that it can be rebuilt from.

    Args:
        config: config of the run.
        base: its backbone.
        stats: classes of the training part.
        protocol: its protocol.
        faces: what is known of the prepared faces.
    """
    neck, head = config["neck"], config["loss"]
    total = sum(sum(counts.values()) for counts in faces.counts.values())
    boxed = None if faces.boxed is None else 2 * faces.boxed > total
    return {
        "backbone": base.spec,
        "neck": {"class": neck["_target_"], "arguments": arguments(neck)},
        "head": {"class": head["_target_"], "arguments": arguments(head)},
        "class_stats": {"names": list(stats.names), "counts": list(stats.counts)},
        "protocol": protocol,
        FRAMING: framing(protocol, codec=faces.codec, boxed=boxed),
        "versions": versions.versions(),
        "config": config,
    }


def protocol(config: Config, faces: Store, minival_hash: str, base: Backbone) -> Config:
    """Return the values that must be equal for two results to be comparable."""
    resized = base.spec.get("input_size")
    return {
        "data": faces.meta.name,
        "classes": list(faces.classes),
        "manifest": faces.meta.manifest_hash,
        "faces": faces.hash,
        **({} if faces.hash == faces.meta.content_hash else {"all_faces": faces.meta.content_hash}),
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

"""The test of a trained model, on the data it was made for or on another set."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.core.progress import Line
from fer_lightning.data import dataset
from fer_lightning.evaluation import results
from fer_lightning.inference.load_model import Model, Own, load_model, read_checkpoint
from fer_lightning.models.forward_pass import Pass
from fer_lightning.run import build
from fer_lightning.run.check_config import check
from fer_lightning.run.final_test import finish
from fer_lightning.run.set_up import EvaluationSetup, hush, minival_hash, tell_data

log = logging.getLogger(__name__)

Config = dict[str, Any]

OF_THE_MODEL = ("classes", "size", "margin", "crop", "flip_averaging")
"""Keys of ``data`` that a model was trained with: they hold for any other data set too, unless overridden."""

ONE_PROCESS = {"devices": 1, "nodes": 1, "strategy": "auto", "accumulate": 1}


def merged(card: Config, overrides: Sequence[str], config_dir: str | None) -> Config:
    """A config with the checkpoint's own values of data and trainer, and what the command line says of them.

    All else is as in conf/, since nothing else is used. What is code comes from conf/ or the user's folder: a
    checkpoint's config is data, and its ``_target_`` is not imported.

    Raises:
        UserError: an override does not exist, or is about what the checkpoint has decided.
    """
    said = {word.lstrip("+").partition("=")[0] for word in overrides}
    if other := sorted(key for key in said if key.partition(".")[0] not in ("data", "trainer")):
        raise UserError(f"{other[0]} is the checkpoint's own; data, trainer and hydra.run.dir can be said here")
    own: Config = card["config"]
    words = [_choice(card, group, config_dir) for group in ("data", "trainer") if group not in said]
    given = compose([*words, *overrides], config_dir)
    data, trainer = ({**given[group], **arguments(own[group])} for group in ("data", "trainer"))
    if own["choices"]["data"] != given["choices"]["data"]:
        data = {**given["data"], **{key: own["data"][key] for key in OF_THE_MODEL if key in own["data"]}}
    if "trainer" in said:
        trainer = given["trainer"]
    return {
        **given,
        "data": {**data, **_said("data", given, said)},
        "trainer": {**trainer, **_said("trainer", given, said), **ONE_PROCESS},
        "seed": own["seed"],
    }


def _choice(card: Config, group: str, config_dir: str | None) -> str:
    """``group=option`` as the checkpoint was trained with; only what can be a file's name is taken from there."""
    option = str(card["config"]["choices"][group])
    if not re.fullmatch(r"[\w.-]+", option):
        raise UserError(f"the checkpoint says {group}={option!r}, which is no option's name; say {group}=...")
    if config_dir is None and option not in groups()[group]:
        raise UserError(
            f"the checkpoint's {group}={option} is an option of your own: say --config-dir, or {group}=..."
        )
    return f"{group}={option}"


def _said(group: str, given: Config, said: set[str]) -> Config:
    """The values of a group's keys that the command line names one by one."""
    keys = [key.partition(".")[2] for key in said if key.startswith(f"{group}.")]
    return {key: given[group][key] for key in keys}


def _own(card: Config, config_dir: str | None) -> Own:
    """The user's own classes that the checkpoint's options name in the user's folder."""
    if config_dir is None:
        return {}
    parts = ("backbone", "neck", "loss")
    given = compose([_choice(card, group, config_dir) for group in parts], config_dir)
    for group in parts:
        if given[group].get("_source_") != card["config"][group].get("_source_"):
            log.warning("notice: the code of %s=%s is not what was trained with", group, given["choices"][group])
    return build.own(given)


def evaluate_checkpoint(
    path: Path, overrides: Sequence[str], directory: Path | None = None, config_dir: str | None = None
) -> None:
    """Test a checkpoint, and write its result into a folder.

    Args:
        path: of the checkpoint.
        overrides: of data and trainer.
        directory: the result's folder; None: a readable name in runs/evaluate.
        config_dir: a folder with further options.

    Raises:
        UserError: something the user can mend.
    """
    begin = time.monotonic()
    hush()
    card = read_checkpoint(path)["fer_lightning"]
    model = load_model(path, _own(card, config_dir))
    setup = _set_up(model, merged(card, overrides, config_dir))
    name = f"{path.resolve().parent.name}-on-{content_hash(setup.protocol)[:8]}"
    place = directory or Path("runs/evaluate") / name
    if place.resolve() == path.resolve().parent:
        raise UserError(f"hydra.run.dir={place} holds the checkpoint's own result; choose another folder")
    result = finish(place, model, setup, begin, {"checkpoint": str(path)})
    numbers = ", ".join(f"{name} {result.metrics[name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, place / results.RESULT)


def _set_up(model: Model, config: Config) -> EvaluationSetup:
    check(config)
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    prepared = dataset.store(config, Line("faces"))
    if prepared.classes != model.classes:
        raise UserError(
            f"data: its classes are {', '.join(prepared.classes)}, the model's {', '.join(model.classes)}"
        )
    data = build.data(config, prepared, build.sampler(config), build.augmentation(config))
    tell_data(data)
    protocol = build.protocol(config, prepared, minival_hash(data), model.network.backbone)
    how = Pass(settings.device, settings.precision, settings.channels_last)
    of_the_model: Config = model.card["config"]
    told = {group: config[group] for group in ("data", "trainer")}
    choices = {**of_the_model["choices"], **{group: config["choices"][group] for group in told}}
    return EvaluationSetup({**of_the_model, **told, "choices": choices}, data, protocol, how, None)

"""Test of a trained model on the data that it was trained for, or on another data set."""

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
from fer_lightning.run.set_up import EvaluationSetup, log_data, minival_hash, quiet_logs

log = logging.getLogger(__name__)

Config = dict[str, Any]

MODEL_KEYS = ("classes", "size", "margin", "crop", "flip_averaging")
"""Keys of ``data`` that a model keeps on other data sets, unless they are overridden."""

ONE_PROCESS = {"devices": 1, "nodes": 1, "strategy": "auto", "accumulate": 1}


def merged(card: Config, overrides: Sequence[str], config_dir: str | None) -> Config:
    """Compose a config of the values of data and trainer in a checkpoint, and the overrides of the command line.

    Everything else is as in conf/, and not used. Code is imported from the options in conf/ or the user's folder
    alone: the config of a checkpoint is data, and its ``_target_`` is not imported.

    Raises:
        UserError: an override does not exist, or is about a value that the checkpoint determines.
    """
    overridden = {word.lstrip("+").partition("=")[0] for word in overrides}
    if other := sorted(key for key in overridden if key.partition(".")[0] not in ("data", "trainer")):
        raise UserError(
            f"{other[0]} is determined by the checkpoint; only data, trainer and hydra.run.dir can be overridden"
        )
    trained: Config = card["config"]
    words = [_choice(card, group, config_dir) for group in ("data", "trainer") if group not in overridden]
    given = compose([*words, *overrides], config_dir)
    data, trainer = ({**given[group], **arguments(trained[group])} for group in ("data", "trainer"))
    if trained["choices"]["data"] != given["choices"]["data"]:
        data = {**given["data"], **{key: trained["data"][key] for key in MODEL_KEYS if key in trained["data"]}}
    if "trainer" in overridden:
        trainer = given["trainer"]
    return {
        **given,
        "data": {**data, **_overrides("data", given, overridden)},
        "trainer": {**trainer, **_overrides("trainer", given, overridden), **ONE_PROCESS},
        "seed": trained["seed"],
    }


def _choice(card: Config, group: str, config_dir: str | None) -> str:
    """Return ``group=option`` of the checkpoint, whose option must be a valid file name."""
    option = str(card["config"]["choices"][group])
    if not re.fullmatch(r"[\w.-]+", option):
        raise UserError(f"the checkpoint says {group}={option!r}, which is no option's name; set {group}=...")
    if config_dir is None and option not in groups()[group]:
        raise UserError(
            f"the checkpoint's {group}={option} is an option of your own; give --config-dir, or set {group}=..."
        )
    return f"{group}={option}"


def _overrides(group: str, given: Config, overridden: set[str]) -> Config:
    """Return the values of those keys of a group that the command line overrides one by one."""
    keys = [key.partition(".")[2] for key in overridden if key.startswith(f"{group}.")]
    return {key: given[group][key] for key in keys}


def _own(card: Config, config_dir: str | None) -> Own:
    """Return the classes in the user's folder that the options of the checkpoint name."""
    if config_dir is None:
        return {}
    parts = ("backbone", "neck", "loss")
    given = compose([_choice(card, group, config_dir) for group in parts], config_dir)
    for group in parts:
        if given[group].get("_source_") != card["config"][group].get("_source_"):
            log.warning("notice: the code of %s=%s has changed since the training", group, given["choices"][group])
    return build.users_classes(given)


def evaluate_checkpoint(
    path: Path, overrides: Sequence[str], directory: Path | None = None, config_dir: str | None = None
) -> None:
    """Test a checkpoint, and write its result to a folder.

    Args:
        path: path of the checkpoint.
        overrides: overrides of data and trainer.
        directory: folder of the result; None: a folder with a readable name in runs/evaluate.
        config_dir: folder with further options.

    Raises:
        UserError: a mistake of the user.
    """
    begin = time.monotonic()
    quiet_logs()
    card = read_checkpoint(path)["fer_lightning"]
    model = load_model(path, _own(card, config_dir))
    setup = _set_up(model, merged(card, overrides, config_dir))
    name = f"{path.resolve().parent.name}-on-{content_hash(setup.protocol)[:8]}"
    folder = directory or Path("runs/evaluate") / name
    if folder.resolve() == path.resolve().parent:
        raise UserError(f"hydra.run.dir={folder} holds the result of the checkpoint's run; choose another folder")
    result = finish(folder, model, setup, begin, {"checkpoint": str(path)})
    numbers = ", ".join(f"{name} {result.metrics[name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, folder / results.RESULT)


def _set_up(model: Model, config: Config) -> EvaluationSetup:
    check(config)
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    prepared = dataset.store(config, Line("faces"))
    if prepared.classes != model.classes:
        raise UserError(
            f"data: its classes are {', '.join(prepared.classes)}, the model's {', '.join(model.classes)}"
        )
    data = build.data(config, prepared)
    log_data(data)
    protocol = build.protocol(config, prepared, minival_hash(data), model.network.backbone)
    forward_pass = Pass(settings.device, settings.precision, settings.channels_last)
    trained: Config = model.card["config"]
    tested = {group: config[group] for group in ("data", "trainer")}
    choices = {**trained["choices"], **{group: config["choices"][group] for group in tested}}
    return EvaluationSetup({**trained, **tested, "choices": choices}, data, protocol, forward_pass, None)

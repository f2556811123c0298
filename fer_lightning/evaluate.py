"""``fer evaluate CHECKPOINT``: test a trained model, on the data it was made for or on another set."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fer_lightning import build, results
from fer_lightning.cache import content_hash
from fer_lightning.config import check, compose
from fer_lightning.errors import UserError
from fer_lightning.features import Pass
from fer_lightning.inference import Model, load_model
from fer_lightning.progress import Line
from fer_lightning.run import hush, minival_hash, tell_data
from fer_lightning.testing import finish
from fer_lightning.training import Cell

log = logging.getLogger(__name__)

Config = dict[str, Any]

OF_THE_MODEL = ("classes", "size", "margin")
"""Keys of ``data`` that a model was trained with: they hold for any other data set too, unless overridden."""


def merged(card: Config, overrides: Sequence[str]) -> Config:
    """The checkpoint's own config, with what the command line says of data and trainer.

    Raises:
        UserError: an override does not exist, or is about what the checkpoint has decided.
    """
    said = {word.lstrip("+").partition("=")[0] for word in overrides}
    if other := sorted(key for key in said if key.partition(".")[0] not in ("data", "trainer")):
        raise UserError(f"{other[0]} is the checkpoint's own; data, trainer and hydra.run.dir can be said here")
    own: Config = card["config"]
    choices = own["choices"]
    given = compose(
        [f"{group}={choices[group]}" for group in ("data", "trainer") if group not in said] + [*overrides]
    )
    data = own["data"]
    if given["data"]["_target_"] != data["_target_"]:
        data = {**given["data"], **{key: data[key] for key in OF_THE_MODEL}}
    trainer = given["trainer"] if "trainer" in said else own["trainer"]
    return {
        **own,
        "data": {**data, **_said("data", given, said)},
        "trainer": {**trainer, **_said("trainer", given, said), "devices": 1, "nodes": 1, "strategy": "auto"},
        "choices": {**choices, "data": given["choices"]["data"], "trainer": given["choices"]["trainer"]},
    }


def _said(group: str, given: Config, said: set[str]) -> Config:
    """The values of a group's keys that the command line names one by one."""
    keys = [key.partition(".")[2] for key in said if key.startswith(f"{group}.")]
    return {key: given[group][key] for key in keys}


def evaluate(words: Sequence[str]) -> int:
    """Run ``fer evaluate`` with these words. Returns the exit code.

    Raises:
        UserError: something the user can mend.
    """
    if not words or words[0] in ("-h", "--help"):
        print("usage: fer evaluate CHECKPOINT [data=... data.root=... trainer=... hydra.run.dir=FOLDER]")
        return 0 if words else 2
    begin = time.monotonic()
    hush()
    path, overrides = Path(words[0]), list(words[1:])
    directory = [word.partition("=")[2] for word in overrides if word.startswith("hydra.run.dir=")]
    overrides = [word for word in overrides if not word.startswith("hydra.")]
    model = load_model(path)
    cell = _cell(model, merged(model.card, overrides))
    name = f"{path.resolve().parent.name}-on-{content_hash(cell.protocol)[:8]}"
    place = Path(directory[-1]) if directory else Path("runs/evaluate") / name
    if place.resolve() == path.resolve().parent:
        raise UserError(f"hydra.run.dir={place} holds the checkpoint's own result; choose another folder")
    result = finish(place, model, cell, begin, {"checkpoint": str(path)})
    numbers = ", ".join(f"{name} {result['metrics'][name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, place / results.RESULT)
    return 0


def _cell(model: Model, config: Config) -> Cell:
    check(config)
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    faces = build.store(config, Line("faces"))
    if faces.classes != model.classes:
        raise UserError(
            f"data: its classes are {', '.join(faces.classes)}, the model's {', '.join(model.classes)}"
        )
    data = build.data(config, faces)
    tell_data(data)
    backbone = model.network.backbone
    protocol = build.protocol(config, faces, minival_hash(data), backbone)
    how = Pass(settings.device, settings.precision, settings.channels_last)
    return Cell(config, backbone, "", data, protocol, how)

"""Tests of trained models on the data that they were trained for, or on other data sets."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.core.progress import Line
from fer_lightning.data import dataset
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.split import ALL
from fer_lightning.evaluation import results
from fer_lightning.inference.load_model import load_model, read_card
from fer_lightning.inference.model import Model
from fer_lightning.models.forward_pass import Pass
from fer_lightning.run import build
from fer_lightning.run.check_config import check
from fer_lightning.run.final_test import finish
from fer_lightning.run.match_classes import faces_to_test, notices
from fer_lightning.run.own_classes import option_of, own_classes
from fer_lightning.run.set_up import EvaluationSetup, log_test_data, minival_hash, quiet_logs

log = logging.getLogger(__name__)

Config = dict[str, Any]

MODEL_KEYS = ("classes", "size", "margin", "crop", "flip_averaging")
"""Keys of ``data`` that a model keeps on other data sets, unless they are overridden."""

RESULTS = Path("runs/evaluate")
"""Folder of the results that are given no other."""

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
    words = [option_of(card, group, config_dir) for group in ("data", "trainer") if group not in overridden]
    given = compose([*words, *overrides], config_dir)
    data, trainer = ({**given[group], **arguments(trained[group])} for group in ("data", "trainer"))
    if trained["choices"]["data"] != given["choices"]["data"]:
        data = {**given["data"], **{key: trained["data"][key] for key in MODEL_KEYS if key in trained["data"]}}
    if "trainer" in overridden:
        trainer = given["trainer"]
    if given["data"]["test_split"] == ALL:
        data["exclude"] = None  # of the training rows, and there are none
    return {
        **given,
        "data": {**data, **_overrides("data", given, overridden)},
        "trainer": {**trainer, **_overrides("trainer", given, overridden), **ONE_PROCESS},
        "seed": trained["seed"],
    }


def _overrides(group: str, given: Config, overridden: set[str]) -> Config:
    """Return the values of those keys of a group that the command line overrides one by one."""
    keys = [key.partition(".")[2] for key in overridden if key.startswith(f"{group}.")]
    return {key: given[group][key] for key in keys}


class PlannedTest(NamedTuple):
    """A test that is to be made, checked as far as that goes without looking at pictures.

    Attributes:
        path: path of the checkpoint.
        model: model in it.
        config: config of data and trainer.
        faces: annotations of the data set.
    """

    path: Path
    model: Model
    config: Config
    faces: Manifest


class Tested(NamedTuple):
    """The folder of a test, and its result."""

    folder: Path
    result: results.Result


def evaluate(
    checkpoints: Sequence[Path],
    sets: Sequence[Sequence[str]],
    config_dir: str | None = None,
    *,
    directory: Path | None = None,
    base: Path | None = None,
    drop_absent: bool = False,
) -> list[Tested]:
    """Test each checkpoint on each data set, and write the results to folders.

    All mistakes in words and annotations are found before the first test.

    Args:
        checkpoints: paths of the checkpoints.
        sets: overrides of data and trainer for each set.
        config_dir: folder with further options.
        directory: folder of the result of one test on one set.
        base: folder of the results of several tests, each in a folder with a readable name. With neither that nor
            ``directory``, it is runs/evaluate.
        drop_absent: whether the outputs for classes without test pictures are dropped.

    Raises:
        UserError: a mistake of the user.
    """
    quiet_logs()
    tests = [test for path in checkpoints for test in _tests(path, sets, config_dir)]
    return [_run(test, directory, base, drop_absent=drop_absent) for test in tests]


def _tests(path: Path, sets: Sequence[Sequence[str]], config_dir: str | None) -> Iterator[PlannedTest]:
    card = read_card(path)
    if "config" not in card:
        raise UserError(f"{path}: an exported model does not tell its data: give the best.ckpt of its run")
    model = load_model(path, own_classes(card, config_dir))
    for overrides in sets:
        config = merged(card, overrides, config_dir)
        check(config, to_train=False)
        yield PlannedTest(path, model, config, faces_to_test(config, model.classes, Line("faces")))


def _run(test: PlannedTest, directory: Path | None, base: Path | None, *, drop_absent: bool) -> Tested:
    begin = time.monotonic()
    model, path = test.model, test.path
    setup = _set_up(test)
    counts = setup.data.store.meta.counts["test"]
    told = notices(counts, test.faces, model.card["protocol"], dropped=drop_absent)
    for text in told:
        log.warning("notice: %s", text)
    kept = None
    if drop_absent:
        kept = [k for k, name in enumerate(model.classes) if counts[name]]
        if len(kept) < 2:
            raise UserError(f"--drop-absent: {test.faces.name} has test pictures of {model.classes[kept[0]]} only")
        setup.protocol["classes"] = [model.classes[k] for k in kept]
    folder = directory or _folder(path, setup, base)
    if folder.resolve() == path.resolve().parent:
        raise UserError(f"hydra.run.dir={folder} holds the result of the checkpoint's run; choose another folder")
    result = finish(folder, model, setup, begin, {"checkpoint": str(path), "notices": told}, kept)
    numbers = ", ".join(f"{name} {result.metrics[name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, folder / results.RESULT)
    return Tested(folder, result)


def _folder(path: Path, setup: EvaluationSetup, base: Path | None) -> Path:
    """Return a folder for the result; in a folder of several results those of each checkpoint have their own."""
    key = setup.protocol if base is None else [setup.protocol, str(path.resolve())]
    return (base or RESULTS) / f"{path.resolve().parent.name}-on-{content_hash(key)[:8]}"


def _set_up(test: PlannedTest) -> EvaluationSetup:
    config, model = test.config, test.model
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    data = build.data(config, dataset.store(config, Line("faces"), test.faces))
    log_test_data(data)
    protocol = build.protocol(config, data.store, minival_hash(data), model.network.backbone)
    forward_pass = Pass(settings.device, settings.precision, settings.channels_last)
    trained: Config = model.card["config"]
    tested = {group: config[group] for group in ("data", "trainer")}
    choices = {**trained["choices"], **{group: config["choices"][group] for group in tested}}
    return EvaluationSetup({**trained, **tested, "choices": choices}, data, protocol, forward_pass, None)

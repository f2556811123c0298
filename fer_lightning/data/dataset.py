"""Config -> faces: a data set's annotations, and its prepared store. Needs no torch."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from fer_lightning.config.instantiate import Key, arguments, keys_of, make, target
from fer_lightning.config.shipped import shipped
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import home
from fer_lightning.data.manifest import SCHEMA, Manifest
from fer_lightning.data.readers.common import SPLITS
from fer_lightning.data.split import with_test_split
from fer_lightning.data.store.prepare import disk_estimate, is_prepared, prepare
from fer_lightning.data.store.store import Store

log = logging.getLogger(__name__)

Config = dict[str, Any]
Progress = Callable[[int, int], None]


def read(node: Config, progress: Progress | None = None) -> Manifest:
    """What a data set's annotations say, with the splits that it has itself.

    Args:
        node: the config of ``data``; where its classes are null, all emotions that the set has.
        progress: see the reader.

    Raises:
        UserError: see the reader; or it is a user's own and returns something else than it must.
    """
    options = {"_target_": node["_target_"], **reading(node)}
    made = make("data", options, progress=progress)
    wanted = node["classes"]
    if not isinstance(made, Manifest) or made.rows.schema != SCHEMA or wanted not in (None, list(made.classes)):
        raise UserError(
            f"data: {node['_target_']} must return a Manifest with data.classes as its classes, in that order, "
            "and rows as fer_lightning.data.manifest.make_rows makes them"
        )
    try:
        made.check_names(list(SPLITS))
    except ValueError as error:
        raise UserError(f"data: {node['_target_']}: {error}") from error
    return made


def manifest(config: Config, progress: Progress | None = None) -> Manifest:
    """What is trained and tested on.

    Raises:
        UserError: see ``read`` and ``with_test_split``; data.exclude is no list of rows that are there; nothing
            says what to test on.
    """
    found = read(config["data"], progress)
    chosen = with_test_split(found, config["data"]["test_split"] or _usual_test_split(found.name))
    exclude = config["data"].get("exclude")
    return _without(chosen, Path(exclude).expanduser()) if exclude else chosen


def _without(found: Manifest, file: Path) -> Manifest:
    """A manifest without the training rows whose ids a file lists, as ``fer doctor --exclude`` writes it."""
    try:
        ids = pa.array(json.loads(file.read_text(encoding="utf-8")), pa.string())
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"data.exclude={file}: it cannot be read as a JSON list of ids ({' '.join(str(error).split())}); "
            "write it with `fer doctor ROOT --exclude FILE`"
        ) from error
    named = pc.and_(pc.equal(found.rows["split"], "train"), pc.is_in(found.rows["id"], ids))
    if not (number := pc.sum(named).as_py()):
        raise UserError(f"data.exclude={file}: none of its {len(ids)} ids is a training row of {found.root}")
    log.info("%d training rows left out by %s", number, file)
    skipped = {**found.skipped, "train": {**found.skipped.get("train", {}), "excluded": number}}
    return replace(found, rows=found.rows.filter(pc.invert(named)), skipped=skipped)


def _usual_test_split(option: str) -> str:
    """What the option of conf/data says; data=auto leaves it to the one that it finds."""
    file = shipped("conf") / "data" / f"{option}.yaml"
    if not file.is_file():
        raise UserError(f"data.test_split=null: say what to test {option} on: test, val or a share such as 20%")
    return str(yaml.safe_load(file.read_text(encoding="utf-8"))["test_split"])


def store(config: Config, progress: Progress | None = None, faces: Manifest | None = None) -> Store:
    """Prepare the data set's faces, or open them where that was done before.

    Args:
        config: of the run.
        progress: called with the number of faces that are done, and of all.
        faces: what ``manifest`` returned; None: read it.

    Raises:
        UserError: see ``manifest``; or the faces cannot be prepared.
    """
    faces = faces or manifest(config, progress)
    try:
        return prepare(faces, _stores(config), **preparing(config["data"]), progress=progress)
    except ValueError as error:
        raise UserError(f"data: {error}") from error


def missing_bytes(config: Config, found: Manifest) -> int:
    """Disk that preparing a manifest's faces will need: nothing where it was done before."""
    options = preparing(config["data"])
    if is_prepared(found, _stores(config), **options):
        return 0
    return disk_estimate(found.rows.num_rows, options["size"], options["codec"])


def _stores(config: Config) -> Path:
    return Path(config["data"]["store"] or home() / "stores").expanduser()


def reading(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of ``data`` that its reader takes."""
    taken = inspect.signature(target("data", node)).parameters
    return {key: value for key, value in arguments(node).items() if key in taken}


def preparing(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of ``data`` that ``prepare`` takes."""
    return {key: node[key] for key in keys_of_prepare() if key in node}


def batching(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of ``data`` that the datamodule takes."""
    return {key: node[key] for key in keys_of_batches() if key in node}


def keys_of_prepare() -> dict[str, Key]:
    """The keys of ``data`` that ``prepare`` takes."""
    from fer_lightning.data.store.prepare import prepare

    return keys_of(prepare, {"manifest", "base", "processes", "progress"})


def keys_of_batches() -> dict[str, Key]:
    """The keys of ``data`` that the datamodule takes."""
    from fer_lightning.data.datamodule import FaceDataModule

    return keys_of(FaceDataModule, {"store", "draw", "augment", "seed"})

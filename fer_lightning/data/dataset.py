"""From the config of ``data`` to a manifest of its annotations and to a store of its faces. Needs no torch."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from fer_lightning.config.instantiate import make, target
from fer_lightning.config.shipped import shipped
from fer_lightning.core.errors import Stopped, UserError
from fer_lightning.core.files import home, user_path
from fer_lightning.core.progress import Line
from fer_lightning.data.manifest import SCHEMA, HeldOut, Manifest, require_every_class
from fer_lightning.data.options import DataOptions, StoreOptions, require_shared_keys, select
from fer_lightning.data.persons import is_column, with_persons
from fer_lightning.data.readers.common import SPLITS
from fer_lightning.data.readers.layouts import Folder
from fer_lightning.data.split import share_of, test_rows, with_folds, with_test_split
from fer_lightning.data.store.prepare import copy_store, disk_estimate, is_prepared, prepare
from fer_lightning.data.store.store import Store

log = logging.getLogger(__name__)

Config = dict[str, Any]
Progress = Callable[[int, int], None]


def read(node: Config, progress: Progress | None = None) -> Manifest:
    """Return the annotations of a data set, with the splits that it comes with.

    Args:
        node: Config of ``data``. Where its classes are None, they are all emotions that the set has.
        progress: See the reader.

    Raises:
        UserError: The config lacks a key, or the reader refuses what it finds, or the reader is a user's own and
            returns something else than a sound manifest.
    """
    require_shared_keys(node)
    shared = select(DataOptions, node)
    reader = {key: value for key, value in node.items() if key not in shared}
    _require_parameters(node)
    manifest = make("data", reader, progress=progress, **shared)
    classes = node["classes"]
    if (
        not isinstance(manifest, Manifest)
        or manifest.rows.schema != SCHEMA
        or classes not in (None, list(manifest.classes))
    ):
        raise UserError(
            f"data: {node['_target_']} must return a Manifest with data.classes as its classes, in that order, "
            "and rows as fer_lightning.data.manifest.make_rows makes them"
        )
    try:
        manifest.check_names(list(SPLITS))
    except ValueError as error:
        raise UserError(f"data: {node['_target_']}: {error}") from error
    if not manifest.rows.num_rows:
        faults = manifest.faults
        reason = f"; {len(faults):,} were set aside, the first: {faults[0]}" if faults else ""
        raise UserError(f"data: there is no row of {', '.join(manifest.classes)} in {manifest.root}{reason}")
    if not manifest.embedded:
        manifest = replace(manifest, left_out=[*manifest.left_out, *manifest.rows["path"].unique().to_pylist()])
    pattern = shared.get("group")
    return manifest if pattern is None or is_column(pattern) else with_persons(manifest, pattern)


def _require_parameters(node: Config) -> None:
    """Refuse options that a reader has no parameters for."""
    parameters = signature(target("data", node)).parameters
    if is_column(node.get("group")) and "group" not in parameters:
        raise UserError(
            f"data.group={node['group']}: this layout has no columns to choose from; give a regular expression "
            r"on the path whose first group is the person, such as data.group='(S\d+)_'"
        )
    if node.get("recall_by") and "recall_by" not in parameters:
        raise UserError("data.recall_by: this layout has no columns to choose from; data=csv has")
    for key in ("labels", "follow_links"):
        if node.get(key) and key not in parameters:
            raise UserError(f"data.{key}: {node['_target_']} does not take {key}; add the parameter to it")


def manifest(config: Config, progress: Progress | None = None) -> Manifest:
    """Return the faces to train and to test on.

    Raises:
        UserError: See ``read``, ``with_persons`` and ``with_test_split``; or ``data.exclude`` is no list of
            training rows, or nothing says what to test on.
    """
    node = config["data"]
    annotations = read(node, progress)
    folds = _folds(node)
    chosen = with_folds(annotations, folds) if folds else _with_test_part(annotations, node)
    if node.get("exclude") and not chosen.to_train:
        raise UserError(
            f"data.exclude={node['exclude']}: it leaves out training rows, and with data.test_split="
            f"{chosen.tested_on} there are none; say data.exclude=null"
        )
    return _without(chosen, user_path(node["exclude"])) if node.get("exclude") else chosen


def _with_test_part(annotations: Manifest, node: Config) -> Manifest:
    try:
        return with_test_split(annotations, node["test_split"] or _usual_test_split(annotations.name))
    except UserError as error:  # links that are not followed may hide the test part
        folder = Folder(annotations.folder or annotations.root, annotations.follow_links)
        raise UserError(f"{error}{folder.hint_at_links()}") from error


def _folds(node: Config) -> HeldOut | None:
    """Return the fold that ``data.folds`` and ``data.fold`` name; None where there are no folds."""
    folds, fold = node.get("folds"), node.get("fold") or 0
    if folds is None:
        return None
    if fold >= folds:
        raise UserError(f"data.fold={fold}: the {folds} folds have the numbers 0 to {folds - 1}")
    return HeldOut(folds=folds, fold=fold, seed=node["split_seed"])


def _without(manifest: Manifest, file: Path) -> Manifest:
    """Leave out the training rows whose ids are in a file, as ``fer doctor --exclude`` writes it."""
    try:
        ids = pa.array(json.loads(file.read_text(encoding="utf-8")), pa.string())
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"data.exclude={file}: it cannot be read as a JSON list of ids ({' '.join(str(error).split())}); "
            "write it with `fer doctor ROOT --exclude FILE`"
        ) from error
    rows = manifest.rows
    excluded = pc.and_(pc.equal(rows["split"], "train"), pc.is_in(rows["id"], ids))
    if not (count := pc.sum(excluded).as_py()):
        raise UserError(f"data.exclude={file}: none of its {len(ids)} ids is a training row of {manifest.root}")
    log.info("%d training rows left out by %s", count, file)
    skipped = {**manifest.skipped, "train": {**manifest.skipped.get("train", {}), "excluded": count}}
    return replace(manifest, rows=rows.filter(pc.invert(excluded)), skipped=skipped)


def _usual_test_split(option: str) -> str:
    """Return the test split of an option of conf/data; ``data=auto`` uses that of what it recognises."""
    file = shipped("conf") / "data" / f"{option}.yaml"
    if not file.is_file():
        raise UserError(f"data.test_split=null: say what to test {option} on: test, val or a share such as 20%")
    return str(yaml.safe_load(file.read_text(encoding="utf-8"))["test_split"])


def store(config: Config, progress: Progress | None = None, faces: Manifest | None = None) -> Store:
    """Prepare the faces of a data set, or open them where that was done before.

    Args:
        config: Config of the run.
        progress: Called with the number of faces that are done, and of all.
        faces: Manifest that ``manifest`` has returned; None: it is read here.

    Raises:
        UserError: See ``manifest``; or the faces cannot be prepared, or not be divided as wanted.
    """
    faces = faces or manifest(config, progress)
    try:
        return _divided(_prepared(config, faces, progress), faces.held_out, to_train=faces.to_train)
    except ValueError as error:
        raise UserError(f"data: {error}") from error


def _prepared(config: Config, faces: Manifest, progress: Progress | None) -> Store:
    options = select(StoreOptions, config["data"])
    return prepare(faces, _stores(config), **options, progress=progress, shared=home() / "stores")


def prepared_store(config: Config, folder: Path, digest: str) -> Store:
    """Open the store that the planning of a run has prepared, without a look at annotations or pictures.

    Args:
        config: Config of the run.
        folder: The store's folder.
        digest: The ``content_hash`` of its content.

    Raises:
        UserError: It is another one by now, or there is none and it cannot be made.
    """
    opened = Store.open(folder) if folder.is_dir() else _prepared_on_node(config, folder)
    if opened.meta.content_hash != digest:
        raise UserError(
            f"{folder} holds other faces than when the run was planned; plan it again with the same command"
        )
    node = config["data"]
    share = share_of(node["test_split"] or _usual_test_split(opened.meta.name))
    return _divided(opened, _folds(node) or (HeldOut(share) if share else None))


def _prepared_on_node(config: Config, folder: Path) -> Store:
    """Copy the faces of a planned run to a node that lacks them from a disk that all share, or prepare them."""
    progress = Line("faces")
    try:
        if copy_store(home() / "stores", folder):
            return Store.open(folder)
        return _prepared(config, manifest(config, progress), progress)
    except Stopped:
        raise
    except (UserError, ValueError) as error:
        raise UserError(
            f"node {platform.node()} lacks the faces that the run was planned with ({folder}), and cannot prepare "
            f"them itself: {error}; put data.store or FER_CACHE on a disk that all nodes share"
        ) from error


def _divided(prepared: Store, held_out: HeldOut | None, *, to_train: bool = True) -> Store:
    """Return a store with the share or fold that is held out as its test set, and the rest to train on."""
    if held_out is None:
        return prepared
    faces = prepared.split("train")
    held_out_rows = test_rows(held_out, faces.labels, faces.groups, faces.ids)
    divided = prepared.holding_out(held_out_rows, str(held_out), to_train=to_train)
    if not to_train:
        return divided
    needed = ("train", "test") if held_out.share else ("train",)  # a fold may lack a class that few persons show
    counts = {split: divided.meta.counts[split] for split in needed}
    require_every_class(counts, prepared.meta.name, prepared.meta.faults)
    return divided


def missing_bytes(config: Config, manifest: Manifest) -> int:
    """Return the disk space that preparing a manifest's faces will take: none where it was done before."""
    options = select(StoreOptions, config["data"])
    if is_prepared(manifest, _stores(config), **options):
        return 0
    return disk_estimate(manifest.rows.num_rows, options["size"], options["codec"])


def _stores(config: Config) -> Path:
    return user_path(config["data"]["store"] or home() / "stores")

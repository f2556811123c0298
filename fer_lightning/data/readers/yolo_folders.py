"""Where a YOLO data set's pictures and text files lie: by the folders' usual names, and by what data.yaml says."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from fer_lightning.core.errors import UserError
from fer_lightning.data.readers.common import split_folders
from fer_lightning.data.readers.layouts import Folder

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Keys of the YAML file that name the folders of a split's pictures."""

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Folders of pictures and of their text files."""

    images: str
    labels: str


def yaml_file(folder: Folder) -> str | None:
    """Return the name of the file that names the classes: a usual name, or the only YAML file."""
    if usual := next((name for name in NAMES if folder.is_file(name)), None):
        return usual
    others = [name for name in folder.files(".", []) if name.endswith((".yaml", ".yml"))]
    return others[0] if len(others) == 1 else None


def load(file: Path) -> dict[str, Any]:
    """Return the content of a YAML file.

    Raises:
        UserError: it cannot be read, or has no keys.
    """
    try:
        node = yaml.safe_load(file.read_bytes())  # yaml knows byte order marks
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    return node if isinstance(node, dict) else {}


def parts(folder: Folder) -> dict[str, list[Part]]:
    """Return the folders of each split: those that the YAML file names if they exist, else the usual ones."""
    file = yaml_file(folder)
    if file is None:
        return {}
    try:
        node = load(folder.path / file)
    except UserError:  # told when the classes' names are read
        node = {}
    found = _usual(folder)
    for split in KEYS:
        named = [part for value in _values(node, split) if (part := _named(folder, node, value))]
        if named and (split == "train" or named != found.get("train")):
            found[split] = named
    return found


def tell_missing(folder: Folder, node: dict[str, Any], found: Iterable[str]) -> None:
    """Log which splits the YAML file names that have no folders of their own."""
    for split in KEYS.keys() - set(found):
        for value in _values(node, split):
            log.warning("YOLO: %s: %s is no folder of its own in %s; it is not read", split, value, folder.path)


def _usual(folder: Folder) -> dict[str, list[Part]]:
    """Return train/images with train/labels and the like; without those, images/train with labels/train."""
    beside = {name: Part(f"{name}/images", f"{name}/labels") for name in folder.folders()}
    names = folder.folders("images") if folder.is_folder("images") else []
    below = {name: Part(f"images/{name}", f"labels/{name}") for name in names}
    found: list[dict[str, list[Part]]] = []
    for candidates in (beside, below):
        whole = {name: part for name, part in candidates.items() if all(folder.is_folder(one) for one in part)}
        found.append({split: [whole[name]] for split, name in split_folders(whole).items()})
    return max(found, key=lambda one: ("train" in one, len(one)))


def _values(node: dict[str, Any], split: str) -> list[str]:
    value: Any = next((node[key] for key in KEYS[split] if node.get(key)), [])
    return [str(one) for one in (value if isinstance(value, list) else [value])]


def _named(folder: Folder, node: dict[str, Any], value: str) -> Part | None:
    """Return the folders that a value of the YAML file means, if they lie in the data set's folder.

    Paths are relative to `path`, which often is that of another machine, or to the YAML file; "../" before them is
    what one exporter writes for "./".
    """
    path = str(node.get("path") or ".")
    for base in (path, PurePosixPath(path).name, "."):
        images = _relative(folder, PurePosixPath(base) / value)
        if images is not None and folder.is_folder(images):
            below = f"{images}/images"
            return _with_labels(folder, below if folder.is_folder(below) else images)
    return None


def _relative(folder: Folder, path: PurePosixPath) -> str | None:
    """Return a path relative to the folder, without "../" at its beginning; None if it is another machine's."""
    if path.is_absolute():
        return path.relative_to(folder.path).as_posix() if path.is_relative_to(folder.path) else None
    steps = list(path.parts)
    while steps and steps[0] == "..":
        del steps[0]
    return None if ".." in steps else PurePosixPath(*steps).as_posix()


def _with_labels(folder: Folder, images: str) -> Part | None:
    """Return the folder with that of its text files: the last "images" of its path is "labels" there."""
    steps = images.split("/")
    if "images" in steps:
        steps[len(steps) - 1 - steps[::-1].index("images")] = "labels"
    labels = "/".join(steps)
    return Part(images, labels) if folder.is_folder(labels) else None

"""The YOLO layout: {train,valid,test}/images beside labels with a text file a picture, names in data.yaml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml
from PIL import Image

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, chosen_classes, manifest, our_names, pooled, split_folders
from fer_lightning.data.readers.layouts import Layout, files_in, folders_in, is_file, is_folder, is_picture

NAMES = "data.yaml"
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: width and height change places when it is shown
LAYOUT = Layout("yolo", "YOLO", f"{NAMES} and train/labels", lambda folder: "train" in _folders(folder))

Found = Row | Fault
Box = tuple[int, int, int, int]


def _folders(folder: Path) -> dict[str, str]:
    """The folder of each split that is there."""
    if not is_file(folder, NAMES):
        return {}
    names = folders_in(folder)
    return split_folders(n for n in names if all(is_folder(folder, f"{n}/{sub}") for sub in ("images", "labels")))


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read faces with boxes in YOLO's text format, as AffectNet is mirrored.

    A line is "class cx cy w h", in shares of the picture's size, which is read from its header. A picture with
    several lines is as many rows.

    Args:
        root: the folder that holds data.yaml and train, or the one above it.
        classes: names of the classes to keep, in the classifier's order; other labels are counted. None: the
            emotions that the set has.
        progress: called with (pictures done, pictures).

    Raises:
        UserError: no root, data.yaml says no names or unknown ones, no row can be used, an unknown class.
    """
    folder = LAYOUT.find(root)
    names = _names(folder / NAMES)
    ours = our_names(LAYOUT.title, names.values(), classes)
    classes = chosen_classes(LAYOUT.title, classes, ours.values())
    labels = {number: ours[name] for number, name in names.items()}
    faults: list[Fault] = []
    items = []
    for split, name in _folders(folder).items():
        items += [(path, label, split) for path, label in _pairs(folder, name, faults)]
    rows = []
    for found in pooled(partial(_rows, folder, labels), items, progress):
        rows += [one for one in found if isinstance(one, Row)]
        faults += [one for one in found if isinstance(one, Fault)]
    return manifest(LAYOUT, folder, rows, classes, faults)


def _names(file: Path) -> dict[str, str]:
    """Class names by number; YAML has them as a list or by key."""
    try:
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    names = node.get("names") if isinstance(node, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{file} has no `names`: the classes' names by number")
    return {str(number): str(name) for number, name in names.items()}


def _pairs(root: Path, split: str, faults: list[Fault]) -> list[tuple[str, str]]:
    """Paths of pictures and their labels; one without the other becomes a fault."""
    pictures = {Path(name).stem: name for name in files_in(root, f"{split}/images", faults) if is_picture(name)}
    labels = {Path(name).stem: name for name in files_in(root, f"{split}/labels", faults) if name.endswith(".txt")}
    for stem in sorted(labels.keys() - pictures.keys()):
        faults.append(Fault("missing", f"{split}/labels/{labels[stem]}", "its picture is not there"))
    for stem in sorted(pictures.keys() - labels.keys()):
        faults.append(Fault("missing_annotation", f"{split}/images/{pictures[stem]}", "it has no text file"))
    return [
        (f"{split}/images/{pictures[stem]}", f"{split}/labels/{labels[stem]}")
        for stem in sorted(pictures.keys() & labels.keys())
    ]


def _rows(root: Path, labels: dict[str, str], item: tuple[str, str, str]) -> list[Found]:
    path, annotation, split = item
    try:
        lines = (root / annotation).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return [Fault("unreadable_annotation", path, str(error)[:200])]
    lines = [line for line in lines if line.strip()]
    if not lines:
        return [Fault("missing_annotation", path, "its text file is empty")]
    try:
        size = _size(root / path)
    except Exception as error:  # a damaged header makes PIL raise nearly anything
        return [Fault("unreadable", path, str(error)[:200])]
    return [_row(path, line, labels, split, size) for line in lines]


def _row(path: str, line: str, labels: dict[str, str], split: str, size: tuple[int, int]) -> Found:
    number, *shares = line.split()
    if number not in labels:
        return Fault("unknown_label", path, f"class {number[:20]}")
    if (box := _box(shares, size)) is None:
        return Fault("unusable_box", path, f"{' '.join(shares)[:200]} in {size[0]} x {size[1]} pixels")
    return Row(path, labels[number], split, box)


def _size(file: Path) -> tuple[int, int]:
    """Width and height as the picture is shown; only its header is read."""
    with Image.open(file) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(ORIENTATION) in TURNED else (width, height)


def _box(shares: Sequence[str], size: tuple[int, int]) -> Box | None:
    """x, y, width, height in pixels, from center and size in shares; None: it is no box in the picture."""
    try:
        cx, cy, wide, high = (float(share) for share in shares)
    except ValueError:
        return None
    if not (0 < wide <= 1 and 0 < high <= 1 and 0 <= cx <= 1 and 0 <= cy <= 1):  # nan is none of it
        return None
    left, right = round((cx - wide / 2) * size[0]), round((cx + wide / 2) * size[0])
    top, bottom = round((cy - high / 2) * size[1]), round((cy + high / 2) * size[1])
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None

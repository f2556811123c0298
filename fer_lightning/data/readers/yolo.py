"""The YOLO layout: {train,valid,test}/images beside labels with one text file per picture; names in data.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import yaml
from PIL import Image

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, named, pooled, split_folders
from fer_lightning.data.readers.labels import Labels, chosen_classes, label_names
from fer_lightning.data.readers.layouts import Folder, Layout, one_a_stem

NAMES = "data.yaml"
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF orientations that swap width and height when shown
LAYOUT = Layout("yolo", "YOLO", f"{NAMES} and train/labels", lambda folder: "train" in _folders(folder))


def _folders(folder: Folder) -> dict[str, str]:
    """Return the folder of each split that exists."""
    names = folder.folders() if folder.is_file(NAMES) else []
    return split_folders(
        name for name in names if all(folder.is_folder(f"{name}/{sub}") for sub in ("images", "labels"))
    )


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read faces with boxes in YOLO's text format, as AffectNet is mirrored.

    A line is "class cx cy w h", in shares of the picture's size, which is read from its header. A picture with
    several lines becomes as many rows.

    Args:
        root: the folder that holds data.yaml and train, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (pictures done, pictures).

    Raises:
        UserError: no root, no names or unknown ones in data.yaml, no usable row, or an unknown class.
    """
    folder = LAYOUT.find(root, follow_links)
    numbers = _names(folder.path / NAMES)
    names = label_names(LAYOUT.title, numbers.values(), classes, labels)
    chosen = chosen_classes(LAYOUT.title, classes, names.classes, names.unknown, folder)
    faults: list[Fault] = []
    annotations = [NAMES]
    items = [
        item
        for split, name in _folders(folder).items()
        for item in _items(folder, split, name, annotations, faults)
    ]
    rows = chain.from_iterable(pooled(partial(_rows, folder.path, numbers), items, progress))
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, annotations)


def _names(file: Path) -> dict[str, str]:
    """Return class names by number; YAML has them as a list or by key."""
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


def _items(
    folder: Folder, split: str, name: str, annotations: list[str], faults: list[Fault]
) -> list[tuple[str, str, str]]:
    """Return the split, picture and text file of each pair in a folder; one without the other becomes a fault."""
    pictures = one_a_stem(folder.files(f"{name}/images", faults))
    labels = {Path(file).stem: file for file in folder.files(f"{name}/labels", faults) if file.endswith(".txt")}
    annotations += [f"{name}/labels/{file}" for file in labels.values()]
    for stem in sorted(labels.keys() - pictures.keys()):
        faults.append(Fault("missing", f"{name}/labels/{labels[stem]}", "its picture is missing"))
    for stem in sorted(pictures.keys() - labels.keys()):
        faults.append(Fault("missing_annotation", f"{name}/images/{pictures[stem]}", "it has no text file"))
    stems = sorted(pictures.keys() & labels.keys())
    return [(split, f"{name}/images/{pictures[stem]}", f"{name}/labels/{labels[stem]}") for stem in stems]


def _rows(root: Path, names: dict[str, str], item: tuple[str, str, str]) -> list[Row | Fault]:
    split, path, annotation = item
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
    return [_row(path, line, names, split, size) for line in lines]


def _row(path: str, line: str, names: dict[str, str], split: str, size: tuple[int, int]) -> Row | Fault:
    number, *shares = line.split()
    if number not in names:
        return Fault("unknown_label", path, f"class {number[:20]}")
    if (box := _box(shares, *size)) is None:
        return Fault("unusable_box", path, f"{' '.join(shares)[:200]} in {size[0]} x {size[1]} pixels")
    return Row(path, names[number], split, *box)


def _size(file: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown; only its header is read."""
    with Image.open(file) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(ORIENTATION) in TURNED else (width, height)


def _box(shares: Sequence[str], width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return x, y, width, height in pixels from center and size in shares, or None if the box is invalid."""
    try:
        center_x, center_y, wide, high = (float(share) for share in shares)
    except ValueError:
        return None
    if not (0 < wide <= 1 and 0 < high <= 1 and 0 <= center_x <= 1 and 0 <= center_y <= 1):  # nor nan
        return None
    left, right = round((center_x - wide / 2) * width), round((center_x + wide / 2) * width)
    top, bottom = round((center_y - high / 2) * height), round((center_y + high / 2) * height)
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None

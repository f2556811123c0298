"""The YOLO layout: pictures and text files in images and labels, above or below the split; names in data.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, named, pooled
from fer_lightning.data.readers.labels import Labels, chosen_classes, label_names, plain
from fer_lightning.data.readers.layouts import Folder, Layout, one_a_stem
from fer_lightning.data.readers.text_tables import text_of
from fer_lightning.data.readers.yolo_folders import Part, load, parts, tell_missing, yaml_file

ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF orientations that swap width and height when shown
LAYOUT = Layout(
    "yolo",
    "YOLO",
    "data.yaml and train/labels (or labels/train)",
    lambda folder: "train" in parts(folder),
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

    A line is "class cx cy w h", in shares of the picture's size, which is read from its header; "class x1 y1 x2 y2
    x3 y3 ..." is an outline, of which the box around it is taken. A picture with several lines has as many rows.

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
    found = parts(folder)
    annotations = [yaml_file(folder) or ""]
    node = load(folder.path / annotations[0])
    numbers = _names(folder.path / annotations[0], node)
    names = label_names(LAYOUT.title, numbers.values(), classes, labels)
    chosen = chosen_classes(LAYOUT.title, classes, names.classes, names.unknown, folder)
    tell_missing(folder, node, found)
    faults: list[Fault] = []
    items = [
        item
        for split, parts_of_split in found.items()
        for part in parts_of_split
        for item in _items(folder, split, part, annotations, faults)
    ]
    rows_of = partial(_rows, folder.path, numbers, bool(node.get("kpt_shape")))
    rows = chain.from_iterable(pooled(rows_of, items, progress))
    return build_manifest(LAYOUT, folder, named(rows, names, classes), chosen, faults, annotations)


def _names(file: Path, node: dict[str, Any]) -> dict[str, str]:
    """Return class names by number; YAML has them as a list or by key."""
    names = node.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{file} has no `names`: the classes' names by number")
    return {str(number): str(name) for number, name in names.items()}


def _items(
    folder: Folder, split: str, part: Part, annotations: list[str], faults: list[Fault]
) -> list[tuple[str, str, str]]:
    """Return the split, picture and text file of each pair in a folder; one without the other becomes a fault."""
    pictures = one_a_stem(folder.files(part.images, faults))
    labels = {Path(file).stem: file for file in folder.files(part.labels, faults) if file.endswith(".txt")}
    annotations += [f"{part.labels}/{file}" for file in labels.values()]
    for stem in sorted(labels.keys() - pictures.keys()):
        faults.append(Fault("missing", f"{part.labels}/{labels[stem]}", "its picture is missing"))
    for stem in sorted(pictures.keys() - labels.keys()):
        faults.append(Fault("missing_annotation", f"{part.images}/{pictures[stem]}", "it has no text file"))
    stems = sorted(pictures.keys() & labels.keys())
    return [(split, f"{part.images}/{pictures[stem]}", f"{part.labels}/{labels[stem]}") for stem in stems]


def _rows(root: Path, names: dict[str, str], with_points: bool, item: tuple[str, str, str]) -> list[Row | Fault]:
    """Return the rows of a picture; ``with_points``: key points follow the box in each line."""
    split, path, annotation = item
    try:
        lines = text_of(root / annotation).splitlines()
    except (OSError, UnicodeError) as error:
        return [Fault("unreadable_annotation", path, str(error)[:200])]
    lines = [line for line in lines if line.strip()]
    if not lines:
        return [Fault("missing_annotation", path, "its text file is empty")]
    try:
        size = _size(root / path)
    except Exception as error:  # a damaged header makes PIL raise nearly anything
        return [Fault("unreadable", path, str(error)[:200])]
    return [_row(path, line, names, split, size, with_points) for line in lines]


def _row(
    path: str, line: str, names: dict[str, str], split: str, size: tuple[int, int], with_points: bool
) -> Row | Fault:
    number, *shares = line.split()
    number = plain(number)
    if number not in names:
        return Fault("unknown_label", path, f"class {number[:20]}")
    if (box := _box(shares[:4] if with_points else shares, *size)) is None:
        return Fault("unusable_box", path, f"{' '.join(shares)[:200]} in {size[0]} x {size[1]} pixels")
    return Row(path, names[number], split, *box)


def _size(file: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown; only its header is read."""
    with Image.open(file) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(ORIENTATION) in TURNED else (width, height)


def _box(shares: Sequence[str], width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return x, y, width, height in pixels of a box or of an outline in shares, or None if it is invalid."""
    try:
        values = [float(share) for share in shares]
    except ValueError:
        return None
    if len(values) >= 6 and len(values) % 2 == 0:
        values = _around(values)
    if len(values) != 4:
        return None
    center_x, center_y, wide, high = values
    if not (0 < wide <= 1 and 0 < high <= 1 and 0 <= center_x <= 1 and 0 <= center_y <= 1):  # nor nan
        return None
    left, right = round((center_x - wide / 2) * width), round((center_x + wide / 2) * width)
    top, bottom = round((center_y - high / 2) * height), round((center_y + high / 2) * height)
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None


def _around(outline: Sequence[float]) -> list[float]:
    """Return center and size of the box around an outline x1, y1, x2, y2, ...; nothing if a point is outside."""
    if not all(0 <= value <= 1 for value in outline):
        return []
    left, right, top, bottom = (pick(outline[axis::2]) for axis in (0, 1) for pick in (min, max))
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]

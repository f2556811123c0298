"""Columns of a table of faces: which hold what, by their usual names or as the user says; and its boxes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.data.manifest import Fault
from fer_lightning.data.readers.common import NUMBER, numbers_of, set_aside

USUAL = {
    "path": (
        *("path", "file_path", "image_path", "img_path", "picture_path", "pth", "subDirectory_filePath"),
        *("file", "file_name", "image", "image_name", "image_file", "img", "img_name", "picture", "face", "name"),
        *("image_id", "img_id"),
    ),
    "label": (
        *("label_name", "emotion_name", "expression_name", "class_name", "emotion_label", "expression_label"),
        *("label", "labels", "emotion", "emotions", "expression", "emo", "expr", "class", "category", "target"),
    ),
    "split": ("split", "subset", "set", "usage", "partition", "part", "phase"),
    "identity": (
        *("identity", "person", "person_id", "subject", "subject_id", "participant", "participant_id"),
        *("actor", "actor_id", "group", "group_id"),
    ),
    "valence": ("valence",),
    "arousal": ("arousal",),
}
"""Usual names of the columns that a manifest takes; upper and lower case, spaces, _ and - do not matter."""

CORNERS, SIZES = ("left", "top", "right", "bottom"), ("x", "y", "width", "height")
BOXES = (
    (CORNERS, ("xmin", "ymin", "xmax", "ymax")),
    (CORNERS, ("x_min", "y_min", "x_max", "y_max")),
    (CORNERS, CORNERS),
    (CORNERS, ("x1", "y1", "x2", "y2")),
    (CORNERS, ("x0", "y0", "x1", "y1")),
    (SIZES, ("x", "y", "w", "h")),
    (SIZES, SIZES),
    (SIZES, ("left", "top", "width", "height")),
    (SIZES, ("xmin", "ymin", "width", "height")),
)
"""Usual names of a box's four columns, corners first: beside them, width and height are often the picture's."""

LARGEST = 1e6  # pixels: a box's number beyond it is none
PREFIXES = ("", "face", "bbox", "box", "bb", "rect")
ROLES = (*USUAL, *CORNERS, *SIZES)


def find_columns(names: Sequence[str], said: Mapping[str, str | None]) -> dict[str, str]:
    """Return the name of the column for each role of ROLES that a table has one for.

    Args:
        names: columns of the table.
        said: names by role as the user gives them; None where a role has no column.
    """
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(_plain(name), name)
    found = {
        role: next(by_plain[plain] for plain in map(_plain, usual) if plain in by_plain)
        for role, usual in USUAL.items()
        if role not in said and any(_plain(name) in by_plain for name in usual)
    }
    if not set(said) & {*CORNERS, *SIZES}:
        found |= _box(by_plain)
    return {**found, **{role: name for role, name in said.items() if name is not None}}


def _box(by_plain: Mapping[str, str]) -> dict[str, str]:
    for roles, columns in BOXES:
        for prefix in PREFIXES:
            plain = [f"{prefix}{_plain(column)}" for column in columns]
            if all(name in by_plain for name in plain):
                return {role: by_plain[name] for role, name in zip(roles, plain, strict=True)}
    return {}


def check_said(said: Mapping[str, str | None]) -> None:
    """Check what the user says about columns, without a table.

    Raises:
        UserError: an unknown role, or a part of a box.
    """
    if unknown := [role for role in said if role not in ROLES]:
        raise UserError(
            f"data.columns: {unknown[0]!r} is nothing that is read{did_you_mean(unknown[0], ROLES)}; "
            f"it takes {', '.join(ROLES)}"
        )
    box = {role for role, name in said.items() if name is not None} & {*CORNERS, *SIZES}
    if box and box not in (set(CORNERS), set(SIZES)):
        raise UserError(f"data.columns: a box is {', '.join(SIZES)} or {', '.join(CORNERS)}, not {', '.join(box)}")


def require_columns(title: str, names: Sequence[str], used: Mapping[str, str]) -> None:
    """Check that a table has what is needed, and what the user named.

    Args:
        title: the table in messages.
        names: its columns.
        used: see ``find_columns``.

    Raises:
        UserError: a column is missing.
    """
    there = f"it has: {', '.join(names)[:300] or 'nothing'}"
    for role, name in used.items():
        if name not in names:
            raise UserError(
                f"data.columns.{role}={name}: {title} has no such column{did_you_mean(name, names)}; {there}"
            )
    for role in ("path", "label"):
        if role not in used:
            pixels = "; data=fer2013 reads pictures that are columns of pixels" if "pixels" in names else ""
            what = "the picture's path" if role == "path" else "the label"
            raise UserError(
                f"{title} has no column for {what} by a usual name; {there}; say data.columns={{{role}: <column>}}"
                f"{pixels}"
            )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def with_boxes(rows: pa.Table, box: Sequence[str], faults: list[Fault]) -> pa.Table:
    """Return the rows with x, y, width, height in whole pixels; rows without a usable box become faults."""
    left, top, right, bottom = (numbers_of(rows[name], NUMBER) for name in box)
    if box == SIZES:
        right, bottom = pc.add(left, right), pc.add(top, bottom)
    edges = [pc.round(edge, round_mode="half_up") for edge in (left, top, right, bottom)]
    left, top, right, bottom = edges
    near = [pc.less(pc.abs(edge), LARGEST) for edge in edges]
    usable = reduce(pc.and_, [*near, pc.less(left, right), pc.less(top, bottom)])
    usable = pc.fill_null(usable, False)
    sizes = (left, top, pc.subtract(right, left), pc.subtract(bottom, top))
    kept = set_aside(rows, pc.invert(usable), "unusable_box", box, faults).drop_columns(list(box))
    for name, values in zip(SIZES, sizes, strict=True):
        kept = kept.append_column(name, values.filter(usable).cast(pa.int32()))
    return kept

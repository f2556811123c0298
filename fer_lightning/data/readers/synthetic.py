"""Drawn faces: generated when first asked for, then read like AffectNet's old release."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from fer_lightning.core import files
from fer_lightning.core.errors import UserError
from fer_lightning.core.ranges import Count, Positive, Seed, ShareBelowOne
from fer_lightning.data.manifest import SCHEMA, Manifest
from fer_lightning.data.readers import affectnet
from fer_lightning.data.synthetic import generate


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    rows: Count,
    seed: Seed,
    proportions: Literal["affectnet", "uniform"],
    intensity: Positive,
    label_noise: ShareBelowOne,
    test_per_class: Count = generate.TEST_PER_CLASS,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read the set of drawn faces that these numbers describe; draw it first if it is not there.

    Args:
        root: its folder; by default one in the cache, named after the content hash of the numbers.
        classes: names of the classes to keep, in the classifier's order. None: all.
        rows: training pictures.
        seed: of everything drawn.
        proportions: of the training classes: AffectNet's, or all the same.
        intensity: typical strength of the action units, 1 being the clear prototype.
        label_noise: share of training faces that show another emotion than their label's.
        test_per_class: test pictures of each class.
        progress: called with (pictures drawn, pictures) while drawing.

    Returns:
        The manifest, with who is pictured in the column ``identity``.

    Raises:
        UserError: ``root`` holds something else, or a number lies outside its range.
    """
    wanted = generate.parameters(rows, seed, proportions, intensity, label_noise, test_per_class)
    default = files.home() / "synthetic" / files.content_hash(wanted)
    folder = Path(root).expanduser() if root else default
    with files.locked(folder):
        if not folder.exists():
            generate.generate(
                folder, rows, seed, proportions, intensity, label_noise, progress, test_per_class=test_per_class
            )
    _check(folder, wanted)
    manifest = affectnet.read(str(folder), classes)
    return replace(manifest, name="synthetic", rows=_with_identity(manifest.rows), redistributable=True)


def _check(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder that was drawn with other numbers, or by somebody else."""
    try:
        stored = json.loads((folder / generate.PARAMETERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder} holds no drawn faces; give data.root another name, or null") from None
    found = {"test_per_class": generate.TEST_PER_CLASS, **stored}  # once it was no choice, and not written down
    if differing := [key for key, value in wanted.items() if found.get(key) != value]:
        key = differing[0]
        raise UserError(
            f"the faces in {folder} were drawn with {key}={found.get(key)}, not {wanted[key]}; "
            "give data.root another name, or null"
        )


def _with_identity(rows: pa.Table) -> pa.Table:
    """Fill the identity: the name of the folder that a picture lies in."""
    people = [PurePosixPath(str(path)).parent.name for path in rows["path"].to_pylist()]
    place = rows.schema.get_field_index("identity")
    return rows.set_column(place, SCHEMA.field("identity"), pa.array(people, pa.string()))

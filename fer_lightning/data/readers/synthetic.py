"""Drawn faces: generated when first asked for, then read like AffectNet's first release."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from fer_lightning.core import files
from fer_lightning.core.errors import UserError
from fer_lightning.core.ranges import Count, Positive, Seed, ShareBelowOne
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import SCHEMA, Manifest
from fer_lightning.data.readers import affectnet
from fer_lightning.data.readers.labels import Labels
from fer_lightning.data.synthetic import generate
from fer_lightning.data.synthetic.shots import TEST_PER_CLASS, Parameters, Proportions


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    rows: Count,
    seed: Seed,
    proportions: Proportions,
    intensity: Positive,
    label_noise: ShareBelowOne,
    test_per_class: Count = TEST_PER_CLASS,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read the data set of drawn faces that these numbers describe; draw it first if it does not exist.

    Args:
        root: folder of the data set; None is one in the cache, named after the content hash of the numbers.
        classes: class names to keep, in the classifier's order; None keeps all.
        rows: number of training pictures.
        seed: seed of everything drawn.
        proportions: whether the training classes are as frequent as AffectNet's, or equally frequent.
        intensity: typical strength of the action units, 1 being the clear prototype.
        label_noise: share of training faces that show another emotion than their label's.
        test_per_class: number of test pictures of each class.
        labels: see ``affectnet.read``.
        follow_links: likewise.
        progress: callback that receives (pictures drawn, pictures) while drawing.

    Returns:
        The manifest, with the pictured person in the column ``identity``.

    Raises:
        UserError: ``root`` holds something else, or a number lies outside its range.
    """
    parameters = Parameters(rows, seed, proportions, float(intensity), float(label_noise), test_per_class)
    drawn_with = generate.drawn_with(parameters)
    default = files.home() / "synthetic" / files.content_hash(drawn_with)
    folder = files.user_path(root) if root else default
    if not folder.exists():
        with files.locked(folder):
            if not folder.exists():  # another process may have drawn it meanwhile
                generate.generate(folder, parameters, progress)
    _check(folder, drawn_with)
    manifest = affectnet.read(str(folder), classes, labels=labels, follow_links=follow_links)
    person = pc.list_element(
        pc.split_pattern(manifest.rows["path"], "/"), 0
    )  # pictures lie in a folder per person
    with_person = manifest.rows.set_column(SCHEMA.get_field_index("identity"), SCHEMA.field("identity"), person)
    return replace(manifest, name="synthetic", rows=with_person, redistributable=True)


def _check(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder that was drawn with other numbers, or by something else.

    Raises:
        UserError: it is such a folder.
    """
    try:
        stored = json.loads((folder / generate.PARAMETERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder} holds no drawn faces; give data.root another name, or null") from None
    stored = {"test_per_class": TEST_PER_CLASS, **stored}  # earlier sets do not state it
    for key, value in wanted.items():
        if stored.get(key) != value:
            raise UserError(
                f"the faces in {folder} were drawn with {key}={stored.get(key)}, not {value}; "
                "give data.root another name, or null"
            )

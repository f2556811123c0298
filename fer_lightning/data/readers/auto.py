"""The reader that recognises which of the other readers' layouts a folder has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from fer_lightning.core.errors import UserError
from fer_lightning.data.counting import Progress
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.readers import (
    affectnet,
    affectnet_2021,
    fer2013,
    ferplus,
    ferplus_pair,
    folder,
    parquet,
    rafdb,
    yolo,
)
from fer_lightning.data.readers.layouts import Layout, holdings, matching_layouts, require_folder

MODULES = (affectnet, affectnet_2021, fer2013, ferplus, rafdb, yolo, parquet, folder)
LAYOUTS = {module.LAYOUT: module for module in MODULES}

log = logging.getLogger(__name__)


def read(root: str | None, classes: Sequence[str] | None, *, progress: Progress | None = None) -> Manifest:
    """Recognise a folder's layout from a few names, log it, and read the data set.

    Args:
        root: the data set's folder, or its parent.
        classes: class names to keep, in the classifier's order. None keeps every emotion that the data set has.
        progress: see the reader of the layout.

    Raises:
        UserError: no root, no known layout, or several of them; see also the reader of the layout.
    """
    top = require_folder("data=auto", root, "the data set")
    matches = _without_plain_fer2013(matching_layouts(top, list(LAYOUTS)))
    if not matches:
        known = "; ".join(f"{layout.option} ({layout.sign})" for layout in LAYOUTS)
        raise UserError(f"data=auto: {top} has no known layout; {holdings(top)}; known are {known}")
    if len(matches) > 1:
        several = " and ".join(f"{layout.option} in {path}" for layout, path in matches)
        raise UserError(f"data=auto: there is {several}; choose with data=... and data.root=...")
    layout, path = matches[0]
    log.info("data=auto: %s is read as data=%s", path, layout.option)
    return cast(Manifest, LAYOUTS[layout].read(str(path), classes, progress=progress))


def _without_plain_fer2013(matches: list[tuple[Layout, Path]]) -> list[tuple[Layout, Path]]:
    """Leave out FER2013 where FERPlus's votes for the same pictures lie beside it."""
    return [
        (layout, path)
        for layout, path in matches
        if layout is not fer2013.LAYOUT or ferplus_pair.pictures_file(path) is None
    ]

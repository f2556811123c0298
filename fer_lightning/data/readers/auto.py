"""The reader that recognises which of the other readers' layouts a folder has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
    table,
    yolo,
)
from fer_lightning.data.readers.labels import Labels
from fer_lightning.data.readers.layouts import Folder, Layout, matching_layouts, require_folder

MODULES = (affectnet, affectnet_2021, fer2013, ferplus, rafdb, yolo, parquet, folder, table)
LAYOUTS = {module.LAYOUT: module for module in MODULES}

log = logging.getLogger(__name__)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Recognise a folder's layout from a few names, log it, and read the data set.

    Args:
        root: the data set's folder, or its parent.
        classes: class names to keep, in the classifier's order. None keeps every emotion that the data set has.
        labels: classes by the set's own labels, see ``label_names``.
        follow_links: whether links that lead out of the root are followed.
        progress: see the reader of the layout.

    Raises:
        UserError: no root, no known layout, or several of them; see also the reader of the layout.
    """
    top = Folder(require_folder("data=auto", root, "the data set"), follow_links)
    layouts = [folder.layout(classes, labels) if one is folder.LAYOUT else one for one in LAYOUTS]
    special = [layout for layout in layouts if layout is not table.LAYOUT]
    matches = _special(matching_layouts(top, special)) or matching_layouts(top, [table.LAYOUT])
    if not matches:
        known = "; ".join(f"{layout.option} ({layout.sign})" for layout in LAYOUTS)
        raise UserError(f"data=auto: {top.path} has no known layout; {top.holdings()}; known are {known}")
    if len(matches) > 1:
        several = " and ".join(f"{layout.option} in {found.path}" for layout, found in matches)
        raise UserError(f"data=auto: there is {several}; choose with data=... and data.root=...")
    layout, found = matches[0]
    log.info("data=auto: %s is read as data=%s", found.path, layout.option)
    read_layout = next(module.read for known, module in LAYOUTS.items() if known.option == layout.option)
    manifest = read_layout(str(found.path), classes, labels=labels, follow_links=follow_links, progress=progress)
    return cast(Manifest, manifest)


def _special(matches: list[tuple[Layout, Folder]]) -> list[tuple[Layout, Folder]]:
    """Leave out FER2013 beside FERPlus's votes for its pictures, and parquet files that hold no pictures."""
    special = []
    for layout, found in matches:
        with_votes = layout is fer2013.LAYOUT and ferplus_pair.pictures_file(found)
        without_pictures = layout is parquet.LAYOUT and not parquet.holds_pictures(found)
        if not with_votes and not without_pictures:
            special.append((layout, found))
    return special

"""Whatever lies in a folder, where it is one of the layouts that the other readers know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.readers import affectnet, affectnet_2021, fer2013, ferplus, folder, parquet, rafdb, yolo
from fer_lightning.data.readers.layouts import existing, holdings, recognised

MODULES = (affectnet, affectnet_2021, fer2013, ferplus, rafdb, yolo, parquet, folder)
LAYOUTS = {module.LAYOUT: module for module in MODULES}

log = logging.getLogger(__name__)


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Find out by a look at a few names which layout a folder has, say so, and read it.

    Args:
        root: the folder, or the one above it.
        classes: names of the classes to keep, in the classifier's order. None: the emotions that the set has.
        progress: see the reader.

    Raises:
        UserError: no root, no known layout, or two of them; else see the reader.
    """
    top = existing("data=auto", root, "the data set")
    found = recognised(top, list(LAYOUTS))
    if not found:
        known = "; ".join(f"{layout.option} ({layout.sign})" for layout in LAYOUTS)
        raise UserError(f"data=auto: {top} has no known layout; {holdings(top)}; known are {known}")
    if len(found) > 1:
        several = " and ".join(f"{layout.option} in {place}" for layout, place in found)
        raise UserError(f"data=auto: there is {several}; choose with data=... and data.root=...")
    layout, place = found[0]
    log.info("data=auto: %s is read as data=%s", place, layout.option)
    reader: Callable[..., Manifest] = LAYOUTS[layout].read
    return reader(str(place), classes, progress=progress)

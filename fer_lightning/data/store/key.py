"""Name of a store: everything that decides its content, and whether the pictures have changed since."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.store.crop import RESIZE, Recipe
from fer_lightning.data.store.meta import META, SCHEMA_VERSION, StoreMeta
from fer_lightning.data.store.shard import BATCH_BYTES

Leaks = Literal["drop", "keep", "error"]

SHARD_ROWS = 512  # about as many rows of work are lost when a process is killed
MOST_SHARDS = 256  # per split, since a process may have no more than 1,024 files open

log = logging.getLogger(__name__)


def store_folder(manifest: Manifest, base: Path, recipe: Recipe, leaks: Leaks) -> Path:
    """Return the store's folder, named after everything that decides its content."""
    stored = "keep" if leaks == "keep" else "drop"  # "error" makes the store of "drop", for a later run with that
    key = [
        SCHEMA_VERSION,
        manifest.hash(),
        manifest.files_hash,
        recipe.size,
        recipe.margin,
        recipe.codec,
        stored,
        RESIZE,
    ]
    key += [SHARD_ROWS, MOST_SHARDS, BATCH_BYTES]
    key += ["links are followed"] if manifest.follow_links else []
    return base / f"{manifest.name}-{content_hash(key)[:8]}"


def log_changed_files(manifest: Manifest, base: Path, recipe: Recipe) -> None:
    """Log that a data set was prepared before, and that its pictures have changed since."""
    root, made_from = os.path.realpath(manifest.root), manifest.hash()
    for file in base.glob(f"{manifest.name}-*/{META}"):
        try:
            meta = StoreMeta.from_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # of an earlier version, or just being removed
            continue
        made = (meta.root, meta.manifest_hash, meta.size, meta.margin, meta.codec)
        same = made == (root, made_from, recipe.size, recipe.margin, recipe.codec)
        if same and meta.files_hash != manifest.files_hash:
            log.info(
                "the pictures in %s have changed since they were prepared: they are prepared anew (%s is not used "
                "any more; `fer cache clear` removes it)",
                manifest.root,
                file.parent,
            )
            return


def require_unchanged(manifest: Manifest) -> None:
    """Raise a UserError if the pictures' files are not what they were when preparing them began."""
    if replace(manifest).files_hash != manifest.files_hash:
        raise UserError(
            f"{manifest.name}: pictures in {manifest.root} were changed while they were prepared; "
            "run the same again"
        )

"""The keys of ``data`` that every data set has, with their types and ranges; all others are its reader's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fer_lightning.core.errors import UserError
from fer_lightning.core.ranges import Count, InnerShare, Keys, Margin, Natural, Seed, Side
from fer_lightning.data.store.crop import Codec
from fer_lightning.data.store.key import Leaks


def _each_once(names: list[str]) -> list[str]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is there twice")
    return names


class StoreOptions(Keys):
    """How faces are prepared; see ``fer_lightning.data.store.prepare.prepare``."""

    size: Side
    margin: Margin
    codec: Codec
    leaks: Leaks = "drop"


class BatchOptions(Keys):
    """How batches are made of prepared faces.

    Attributes:
        batch_size: pictures in a training step over all ranks; evaluation takes as many at once.
        minival: share of the training pictures that is held out to choose checkpoints by.
        split_seed: seed of that choice, independent of the run's seed and equal for all runs of a table.
        workers: processes of each loader of a rank; None: see ``workers_by_default`` of the datamodule.
        crop: side in pixels of the square in the pictures' middle that the network sees; None: the whole picture.
        soft_labels: whether training pictures are labelled with the shares of their annotators' votes.
        flip_averaging: whether a test's logits are the mean over each picture and its mirror image.
    """

    batch_size: Count
    minival: InnerShare
    split_seed: Seed
    workers: Natural | None = None
    crop: Count | None = None
    soft_labels: bool = False
    flip_averaging: bool = False


class DataOptions(StoreOptions, BatchOptions):
    """All keys of ``data`` that are not its reader's; conf/data/_defaults.yaml has their values."""

    store: str | None
    test_split: str | None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Natural = 0
    group: str | None = None
    recall_by: list[str] | None = None
    exclude: str | None = None
    labels: dict[str, str | None] | None = None
    follow_links: bool = False
    classes: Annotated[list[str], Field(min_length=2), AfterValidator(_each_once)]
    redistributable: bool = False


def require_shared_keys(node: dict[str, Any]) -> None:
    """Raise a UserError where the config of ``data`` lacks a key that every data set has."""
    for key, field in DataOptions.model_fields.items():
        if field.is_required() and key not in node:
            raise UserError(
                f"data.{key}: is not set; begin the YAML file of the data set with `defaults: [_defaults, _self_]`"
            )


def select(options: type[Keys], node: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a node that belong to ``options``."""
    return {key: value for key, value in node.items() if key in options.model_fields}

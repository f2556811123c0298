"""The user's own classes that a trained model needs, from the folder of options that the user names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_lightning.config.compose import compose
from fer_lightning.config.shipped import groups
from fer_lightning.core.errors import UserError
from fer_lightning.inference.build_network import Own
from fer_lightning.inference.load_model import read_card
from fer_lightning.run import build

log = logging.getLogger(__name__)

Config = dict[str, Any]

PARTS = ("backbone", "neck", "loss")
"""Groups of options whose classes a network consists of."""


def option_of(card: Config, group: str, config_dir: str | None) -> str:
    """Return ``group=option`` of the checkpoint, whose option must be a valid file name."""
    option = str(card["config"]["choices"][group])
    if not re.fullmatch(r"[\w.-]+", option):
        raise UserError(f"the checkpoint says {group}={option!r}, which is no option's name; set {group}=...")
    if config_dir is None and option not in groups()[group]:
        raise UserError(
            f"the checkpoint's {group}={option} is an option of your own; give --config-dir, or set {group}=..."
        )
    return f"{group}={option}"


def own_classes(card: Config, config_dir: str | None) -> Own:
    """Return the classes in the user's folder that the options of the checkpoint name."""
    if config_dir is None:
        return {}
    given = compose([option_of(card, group, config_dir) for group in PARTS], config_dir)
    for group in PARTS:
        if given[group].get("_source_") != card["config"][group].get("_source_"):
            log.warning("notice: the code of %s=%s has changed since the training", group, given["choices"][group])
    return build.users_classes(given)


def own_classes_of(models: Sequence[Path], config_dir: str | None) -> Own:
    """Return the classes in the user's folder that models need.

    Args:
        models: paths as ``load_model`` takes them. An exported model does not tell its options: all are looked at.
        config_dir: folder with options of the user's own; None: there are none.
    """
    if config_dir is None:
        return {}
    cards = [read_card(path) for path in models]
    own = [own_classes(card, config_dir) if "config" in card else _all_classes(config_dir) for card in cards]
    return {name: function for classes in own for name, function in classes.items()}


def _all_classes(config_dir: str) -> Own:
    options = [(group, file.stem) for group in PARTS for file in Path(config_dir, group).glob("[!_]*.yaml")]
    configs = [compose([f"{group}={option}"], config_dir) for group, option in options]
    return {name: function for config in configs for name, function in build.users_classes(config).items()}

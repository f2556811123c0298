"""An exported model: model.safetensors with the weights, and config.json with all else, in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load, save

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash, write_atomic
from fer_lightning.inference.card import FRAMING
from fer_lightning.inference.checkpoint import (
    VERSION,
    Stored,
    one_line,
    require_sound,
    require_version,
    weights_hash,
)

if TYPE_CHECKING:
    from fer_lightning.inference.model import Model

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_PRIVATE = "config"
"""Key of a card that stays at home: it holds paths of the machine that trained the model."""


def save_safetensors(model: Model, folder: Path) -> None:
    """Write a model to a folder, as files that hold no code; config.json comes last."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.network.state_dict().items()}
    card = portable_card(model)
    config: dict[str, Any] = {
        "version": VERSION,
        "classes": [*model.classes],
        "size": model.framing.crop,
        "framing": card[FRAMING],
        "corrections": model.corrections,
        "card": card,
        "hashes": {"weights": weights_hash(weights)},
    }
    config["hashes"]["config"] = content_hash(config)
    write_atomic(folder / WEIGHTS, save(weights))
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def portable_card(model: Model) -> dict[str, Any]:
    """Return the card of a model with its framing, and without what stays at home."""
    card = {key: value for key, value in model.card.items() if key != _PRIVATE}
    return {**card, FRAMING: model.framing.model_dump()}


def read_exported(path: Path) -> Stored:
    """Return the card, the weights and the corrections of an exported model, whose hashes are checked.

    Args:
        path: path of the weights; config.json lies beside it.

    Raises:
        UserError: a file is missing, damaged, altered, or of a newer version.
    """
    config = _read_config(path.parent / CONFIG)
    label = f"weights {path}"
    try:
        weights = load(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{label}: no such file; it belongs beside {CONFIG}") from error
    except Exception as error:  # damaged bytes raise exceptions of all types
        raise UserError(f"{label}: is no whole safetensors file: {one_line(error)}") from error
    require_sound(weights, label, config["hashes"].get("weights", ""))
    return Stored(config["card"], weights, config["corrections"])


def _read_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json, whose own hash is checked."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        hashes = config["hashes"]
        require_version(config["version"], str(path))
        digest = hashes["config"]
        without = {**config, "hashes": {key: value for key, value in hashes.items() if key != "config"}}
        changed = content_hash(without) != digest
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; it belongs beside {WEIGHTS}") from error
    except UserError:
        raise
    except Exception as error:  # damaged text, or values of other types than were written
        raise UserError(f"{path}: is no {CONFIG} of fer: {one_line(error)}") from error
    if changed or not {"card", "corrections"} <= config.keys():
        raise UserError(f"{path}: is not as it was written: copy the file again")
    return dict(config)

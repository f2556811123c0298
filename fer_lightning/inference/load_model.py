"""Loads a trained model from its file alone, without Hydra and Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.evaluation.results import CHECKPOINT
from fer_lightning.inference.build_network import NONE, Own, build_network
from fer_lightning.inference.card import framing_of, require_corrections
from fer_lightning.inference.checkpoint import Stored, one_line, read_model
from fer_lightning.inference.exported import CONFIG, WEIGHTS, read_exported
from fer_lightning.inference.model import Model
from fer_lightning.models.network import Network

_SLACK = 10**6
"""Values that a network may have more than its weights and be built all the same, to tell which do not fit."""


def read_card(path: Path) -> dict[str, Any]:
    """Return the card of a model, whose types are checked.

    Args:
        path: path as ``load_model`` takes it.

    Raises:
        UserError: see ``load_model``.
    """
    return dict(_read(path)[0].card)


def load_model(path: str | Path, own: Own = NONE) -> Model:
    """Return the model in a file, in eval mode on the CPU.

    Args:
        path: path of a run's best.ckpt or of its folder, of an exported folder, or of its model.safetensors, which
            needs config.json beside it.
        own: your own classes that the model needs, by name: ``{"mine.MineHead": MineHead}``. Names of a checkpoint
            outside fer_lightning are never imported.

    Raises:
        UserError: the file is missing, damaged, altered, newer than this package, names code, is not ours, needs a
            class that is not given, or its weights do not fit the network that it describes.
    """
    stored, label = _read(path)
    require_corrections(stored.corrections, label)
    return Model(_network(stored, own, label), stored.card, stored.corrections)


def _read(path: str | Path) -> tuple[Stored, str]:
    """Return what a model's file holds, with the types of its card checked, and how messages name it."""
    file = _file(user_path(path))
    exported = file.suffix == ".safetensors"
    stored = read_exported(file) if exported else read_model(file)
    label = f"model {file}" if exported else f"checkpoint {file}"
    framing_of(stored.card, label)
    return stored, label


def _file(path: Path) -> Path:
    """Return the file of the weights that a path leads to.

    Raises:
        UserError: a folder holds no model, or two.
    """
    if path.name == CONFIG:
        return path.with_name(WEIGHTS)
    if not path.is_dir():
        return path
    found = [path / name for name in (CHECKPOINT, WEIGHTS) if (path / name).is_file()]
    if len(found) > 1:
        raise UserError(f"folder {path}: holds {CHECKPOINT} and {WEIGHTS}; give the path of one of them")
    if not found:
        raise UserError(
            f"folder {path}: holds no model: neither {CHECKPOINT} of a run nor an exported {WEIGHTS} with {CONFIG}"
        )
    return found[0]


def _network(stored: Stored, own: Own, label: str) -> Network:
    """Return the network of a card with its weights.

    Raises:
        UserError: the card describes a network that cannot be built, or that the weights do not fit.
    """
    _require_size(stored, own, label)
    try:
        network = build_network(stored.card, own)
    except UserError as error:
        raise UserError(f"{label}: {' '.join(str(error).split())}") from error
    except Exception as error:  # arguments that its classes do not take, in ways of their own
        raise UserError(f"{label}: the network of its card cannot be built: {one_line(error)}") from error
    _require_fit(network, stored.weights, label)
    return network


def _require_size(stored: Stored, own: Own, label: str) -> None:
    """Refuse a card whose network is much larger than the weights, before it is built and takes all memory.

    Raises:
        UserError: it is.
    """
    described: Network | None = None
    with suppress(Exception), torch.device("meta"):  # where not every network can be built
        described = build_network(stored.card, own)
    if described is None:
        return
    needed = sum(tensor.numel() for tensor in described.state_dict().values())
    stored_values = sum(tensor.numel() for tensor in stored.weights.values())
    if needed > 2 * stored_values + _SLACK:
        raise UserError(
            f"{label}: its card describes a network of {needed:,} values, and it has {stored_values:,}"
        )


def _require_fit(network: Network, weights: Mapping[str, Tensor], label: str) -> None:
    """Load the weights into a network that they must fit in names and shapes.

    Raises:
        UserError: they do not.
    """
    try:
        network.load_state_dict(weights)
    except Exception as error:  # a user's own class may load its weights in a way of its own
        said = one_line(error).partition(": ")[2] or one_line(error)
        raise UserError(f"{label}: its weights do not fit the network it describes: {said}") from error

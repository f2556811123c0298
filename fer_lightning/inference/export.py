"""Export of a model to a folder for others: weights, ONNX, a card for people, and a script that uses the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fer_lightning.core.errors import UserError, stopped_by_a_full_disk
from fer_lightning.core.files import atomic_folder, file_hash, write_atomic
from fer_lightning.evaluation.results import Result
from fer_lightning.inference.exported import CONFIG, WEIGHTS, portable_card, save_safetensors
from fer_lightning.inference.model import Model
from fer_lightning.inference.model_card import Exported, model_card
from fer_lightning.inference.onnx_file import ONNX, require_packages, write_onnx
from fer_lightning.inference.parity import compare

README, USE, PARITY = "README.md", "use.py", "parity.json"
FILES = frozenset((WEIGHTS, CONFIG, ONNX, README, USE, PARITY))
"""The files of an export."""

_PATH = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|file:")


def export(
    model: Model,
    folder: Path,
    *,
    result: Result | None = None,
    correct: str | None = None,
    licence: str | None = None,
    onnx: bool = True,
) -> dict[str, Any] | None:
    """Write a model to a folder, whole or not at all; return the content of parity.json, None without ONNX.

    Args:
        model: the model, on the CPU.
        folder: a new or empty folder, or one that holds an earlier export, which is replaced.
        result: the test of the model, for the card.
        correct: name of the correction that is put into model.onnx; None: none.
        licence: licence of the weights, for the card; None: undetermined.
        onnx: whether to write model.onnx, with use.py and parity.json.

    Raises:
        UserError: the folder holds something else, a package is missing, the model cannot be exported, its ONNX
            file computes something else, or its description holds paths of this machine.
    """
    folder = folder.resolve()
    require_place(folder)
    _require_portable(model)
    if onnx:
        require_packages()
    parity = None
    try:
        with stopped_by_a_full_disk(), atomic_folder(folder, replace=True) as partial:
            save_safetensors(model, partial)
            if onnx:
                write_onnx(model, partial / ONNX, correct)
                parity = compare(model, partial / ONNX, correct)
                write_atomic(partial / PARITY, json.dumps(parity, indent=2) + "\n")
                write_atomic(partial / USE, Path(__file__).with_name(USE).read_bytes())
            hashes = {path.name: file_hash(path) for path in sorted(partial.iterdir())}
            card = model_card(model, Exported(result, correct, licence, parity, hashes))
            write_atomic(partial / README, card)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; give another folder with --to") from error
    return parity


def require_place(folder: Path) -> None:
    """Refuse a folder that an export must not replace.

    Raises:
        UserError: it is a file, or holds something that is no export.
    """
    try:
        held = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UserError(f"{folder} is no folder, or lies in a file; give a new folder with --to") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}; give a new folder with --to") from error
    if others := sorted(held - FILES):
        raise UserError(f"{folder} holds {others[0]}, which is of no export; give a new folder with --to")
    if held and not _is_export(folder / CONFIG):
        raise UserError(f"{folder} holds {min(held)} and is no export of fer; give a new folder with --to")


def _is_export(config: Path) -> bool:
    try:
        return bool({"version", "card", "hashes"} <= json.loads(config.read_text(encoding="utf-8")).keys())
    except (OSError, ValueError, AttributeError):
        return False


def _require_portable(model: Model) -> None:
    """Refuse a model whose description holds a path of this machine, as an argument of a user's own class may.

    Raises:
        UserError: it does.
    """
    for key, value in _texts(portable_card(model)):
        if _PATH.match(value):
            raise UserError(
                f"{key} of the model is {value}, a path of this machine, which an export must not give away; "
                "train with a relative path, or without one"
            )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in plain values, with their dotted keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, key)

"""What every benchmark tells in the end: its numbers, and what they were measured with."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fer_lightning.core.files import write_atomic
from fer_lightning.run.final_test import processor


def portable(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a measurement without those that are paths of one machine."""
    return [word for word in overrides if not word.startswith(("data.root", "backbone.weights"))]


def machine() -> dict[str, str]:
    """Return what numbers are measured with."""
    return {"processor": processor(), "torch": torch.__version__, "python": platform.python_version()}


def tell(told: dict[str, Any], out: Path | None) -> None:
    """Print numbers as JSON, and write them to a file, too."""
    text = json.dumps({**told, **machine()}, indent=2) + "\n"
    print(text)
    if out:
        write_atomic(out, text)

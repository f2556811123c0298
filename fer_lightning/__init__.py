"""Facial-expression recognition on imbalanced faces, compared in a table that can be trusted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_lightning.core.contracts import ClassStats, HeadOutput
    from fer_lightning.inference.load_model import load_model

__version__ = "0.1.0"
__all__ = ["ClassStats", "HeadOutput", "load_model"]

_HOMES = {
    "ClassStats": "fer_lightning.core.contracts",
    "HeadOutput": "fer_lightning.core.contracts",
    "load_model": "fer_lightning.inference.load_model",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: `import fer_lightning` alone loads no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

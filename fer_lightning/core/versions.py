"""Versions of the packages that influence the digits of a result."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "fer-lightning",
    "torch",
    "timm",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "numpy",
    "opencv-python-headless",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that influence digits, ``?`` for a missing package."""
    return {"python": platform.python_version(), **versions_of(*_PACKAGES)}


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of packages by name, ``?`` for a missing one."""
    result: dict[str, str] = {}
    for package in packages:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "?"
    return result

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
    result = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "?"
    return result

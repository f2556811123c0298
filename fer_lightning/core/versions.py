"""Versions of the packages that decide the digits of a result."""

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
    """Versions of Python and of the packages that decide digits."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found

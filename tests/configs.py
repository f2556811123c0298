"""Configurations for many tests, composed by one composer."""

from __future__ import annotations

from functools import cache

from fer_lightning.config.compose import Composer
from fer_lightning.config.shipped import groups

ROWS = [
    [f"{group}={options[k % len(options)]}" for group, options in groups().items()]
    for k in range(max(map(len, groups().values())))
]
"""Every option of every group, in as few command lines as hold them all."""


@cache
def composer() -> Composer:
    """One for all tests of a worker: what it has composed once it remembers."""
    return Composer()

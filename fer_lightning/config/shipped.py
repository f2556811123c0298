"""Folders conf/ and experiments/ and their contents, without importing Hydra."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@cache
def shipped(name: str) -> Path:
    """Return the path of ``conf`` or ``experiments``: inside the package of a wheel, else beside it."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def groups() -> dict[str, list[str]]:
    """Return every group of conf/ with its options, in the order of config.yaml's defaults list.

    Files whose names begin with an underscore are no options: others begin with them.
    """
    lines = (shipped("conf") / "config.yaml").read_text(encoding="utf-8").splitlines()
    names = [line.strip(" -").split(":")[0] for line in lines if line.startswith("  - ")]
    folders = [shipped("conf") / name for name in names]
    return {path.name: sorted(file.stem for file in path.glob("[!_]*.yaml")) for path in folders if path.is_dir()}


def tables() -> list[str]:
    """Return the names of the tables in experiments/."""
    return sorted(path.stem for path in shipped("experiments").glob("*.yaml"))

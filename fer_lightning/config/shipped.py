"""Where conf/ and experiments/ lie, and what is in them: known without importing Hydra."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@cache
def shipped(name: str) -> Path:
    """``conf`` or ``experiments``: inside the package of a wheel, or at the checkout's top level."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def groups() -> dict[str, list[str]]:
    """Every group of conf/ and its choices, in the order of config.yaml's defaults list."""
    lines = (shipped("conf") / "config.yaml").read_text().splitlines()
    names = [line.strip(" -").split(":")[0] for line in lines if line.startswith("  - ")]
    folders = [shipped("conf") / name for name in names]
    return {path.name: sorted(file.stem for file in path.glob("[!_]*.yaml")) for path in folders if path.is_dir()}


def tables() -> list[str]:
    """Names of the tables in experiments/."""
    return sorted(path.stem for path in shipped("experiments").glob("*.yaml"))

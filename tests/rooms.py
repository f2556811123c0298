"""The rooms of the package and the imports between them: `python tests/rooms.py` prints both."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1] / "fer_lightning"

ROOMS = (
    "cli",
    "tables",
    "sweeps",
    "run",
    "training",
    "inference",
    "evaluation",
    "doctor",
    "models",
    "data",
    "losses",
    "config",
    "core",
)
"""From the top down: a room imports from those below it only."""


class Import(NamedTuple):
    """An imported name, dotted, and whether it is imported when the module is loaded."""

    name: str
    at_load: bool


@cache
def modules() -> dict[str, Path]:
    """Return every module by its dotted name without `fer_lightning`; a package stands for its __init__."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in sorted(ROOT.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Return what a module imports anywhere in its text."""
    return tuple(_walk(ast.parse(modules()[module].read_text()), at_load=True))


def _walk(node: ast.AST, *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                raise ValueError(f"line {child.lineno}: a relative import; this project writes absolute ones")
            yield from (Import(f"{child.module}.{alias.name}", at_load) for alias in child.names)
        else:
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from _walk(child, at_load=at_load and not deferred and not for_types)


def packages(module: str, *, at_load: bool) -> set[str]:
    """Return the top-level names of what a module imports: when it is loaded, or anywhere."""
    return {name.partition(".")[0] for name, loads in imports(module) if loads or not at_load}


def imported_modules(module: str, *, at_load: bool = False) -> set[str]:
    """Return the modules of this package that a module imports: when it is loaded, or anywhere."""
    names = {_module_of(name) for name, loads in imports(module) if loads or not at_load}
    return {name for name in names if name is not None} - {module}


def _module_of(name: str) -> str | None:
    """Return the module of this package that an imported name is, or is in; None for other packages."""
    parts = name.split(".")
    if parts[0] != "fer_lightning":
        return None
    candidates = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
    return next((module for module in candidates if module in modules()), "__init__")


def loaded_packages(module: str) -> dict[str, str]:
    """Return the top-level names that loading a module imports in the end, each with the module that does it."""
    found: dict[str, str] = {}
    seen, to_visit = set(), {module}
    while to_visit:
        current = to_visit.pop()
        seen.add(current)
        found |= dict.fromkeys(packages(current, at_load=True), current)
        parent = {current.rpartition(".")[0]} & modules().keys()  # loading a module loads its package
        to_visit |= (imported_modules(current, at_load=True) | parent) - seen
    return found


def room_of(module: str) -> str:
    """Return a module's room: the first part of its name."""
    return module.partition(".")[0]


def between_rooms() -> dict[tuple[str, str], int]:
    """Return the pairs of rooms of which the first imports the second, with how many imports there are."""
    counts: dict[tuple[str, str], int] = {}
    for module in modules():
        for other in imported_modules(module):
            pair = room_of(module), room_of(other)
            if pair[0] != pair[1] and set(pair) <= set(ROOMS):
                counts[pair] = counts.get(pair, 0) + 1
    return counts


def main() -> None:
    """Print a line a room: its modules, its lines, and the rooms that it imports."""
    pairs = between_rooms()
    for room in ROOMS:
        paths = [path for module, path in modules().items() if room_of(module) == room]
        lines = sum(len(path.read_text().splitlines()) for path in paths)
        below = ", ".join(other for other in ROOMS if (room, other) in pairs)
        print(f"{room:<11}{len(paths):>4} modules{lines:>6} lines  imports {below or 'none'}")
    upwards = [f"{a} -> {b}" for a, b in pairs if ROOMS.index(a) > ROOMS.index(b)]
    print(f"{len(ROOMS)} rooms, {len(pairs)} imports between them, upwards: {', '.join(upwards) or 'none'}")


if __name__ == "__main__":
    main()

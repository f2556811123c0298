"""``fer cache``: list and clear faces, weights, embeddings, activations and first stages that later runs reuse."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import ABOUT, home
from fer_lightning.core.parser import Parser


def _describe_faces(entry: Path) -> str:
    counts = json.loads((entry / "store.json").read_text(encoding="utf-8"))["counts"]
    return ", ".join(f"{sum(by_class.values())} {split} faces" for split, by_class in counts.items())


def _describe_stage(entry: Path) -> str:
    stage = json.loads((entry / "stage.json").read_text(encoding="utf-8"))
    recall = 100 * stage["minival_macro_recall"]
    return f"{stage['name']}, {stage['epochs']} epochs, minival macro recall {recall:.1f}"


def _describe_embeddings(entry: Path) -> str:
    (entry / "embeddings.npy").stat()  # written last: without it the entry is not finished
    return (entry / ABOUT).read_text(encoding="utf-8")


def _describe_activations(entry: Path) -> str:
    (entry / "activations.npy").stat()  # written last, too
    return (entry / ABOUT).read_text(encoding="utf-8")


def _describe_drawn(entry: Path) -> str:
    parameters = json.loads((entry / "parameters.json").read_text(encoding="utf-8"))
    return f"{parameters['rows']} drawn training faces, seed {parameters['seed']}"


KINDS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "synthetic": ("drawn faces", _describe_drawn),
    "stores": ("prepared faces", _describe_faces),
    "weights": ("pre-trained backbones", lambda entry: entry.stem),
    "embeddings": ("frozen backbones' embeddings", _describe_embeddings),
    "activations": ("what enters last blocks", _describe_activations),
    "stages": ("first stages", _describe_stage),
}
"""Folders of the cache, each with what it holds and a function that describes one entry."""


def cache(words: Sequence[str]) -> int:
    """Run ``fer cache``.

    Returns:
        The exit code: 1 if an entry could not be cleared because another process is writing it.

    Raises:
        UserError: a kind is unknown, or ``clear`` is given none.
    """
    parser = Parser(
        prog="fer cache",
        description="List or clear the cache (FER_CACHE). What is cleared is made again when it is needed.",
    )
    parser.add_argument("action", choices=["list", "clear"])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}, or all")
    options = parser.parse_args(words)
    unknown = [kind for kind in options.kinds if kind not in (*KINDS, "all")]
    if unknown or (options.action == "clear" and not options.kinds):
        mistake = f"unknown kind {unknown[0]!r}" if unknown else "no kind is given"
        raise UserError(f"fer cache {options.action}: {mistake}; give {', '.join(KINDS)}, or all")
    everything = not options.kinds or "all" in options.kinds
    kinds = [kind for kind in KINDS if everything or kind in options.kinds]
    if options.action == "clear":
        return max([_clear_kind(kind) for kind in kinds])
    print(home())
    for kind in kinds:
        _list_kind(kind)
    return 0


def _entries(kind: str) -> dict[Path, int]:
    """Return the entries of a kind, unfinished ones among them, with their sizes in bytes, the largest first."""
    folder = home() / kind
    paths = [path for path in folder.iterdir() if path.suffix != ".lock"] if folder.is_dir() else []
    sizes = {path: sum(file.stat().st_size for file in _files(path)) for path in paths}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _files(entry: Path) -> list[Path]:
    return [path for path in (entry, *entry.rglob("*")) if path.is_file()]


def _list_kind(kind: str) -> None:
    sizes, (title, describe) = _entries(kind), KINDS[kind]
    print(f"{kind:<12}{_in_units(sum(sizes.values())):>9}  {title}, {len(sizes)}")
    for path, size in sizes.items():
        try:
            description = "half written" if path.name.startswith(".") else describe(path)
        except (OSError, ValueError, KeyError):
            description = "not finished"
        age = (time.time() - max((file.stat().st_mtime for file in _files(path)), default=0.0)) / 86400
        name = path.name if len(path.name) <= 30 else f"{path.name[:27]}..."
        print(f"  {name:<30}{_in_units(size):>9}  {age:4.0f} days  {description}")


def _clear_kind(kind: str) -> int:
    """Delete all entries of a kind that no process is writing; return 1 if there is one that stays."""
    sizes = _entries(kind)
    cleared = [path for path in sizes if _delete(path)]
    print(f"{kind}: {len(cleared)} cleared, {_in_units(sum(sizes[path] for path in cleared))}")
    in_use = [path for path in sizes if path not in cleared]
    for path in in_use:
        print(f"  {path} is in use and stays")
    return int(bool(in_use))


def _delete(entry: Path) -> bool:
    """Delete an entry unless a process holds its lock; return whether it was deleted."""
    name = entry.name
    if name.startswith("."):  # the temporary file or folder of an entry being written: .NAME.RANDOM.partial
        name = name[1:].rsplit(".", 2)[0]
    try:
        with FileLock(entry.with_name(f"{name}.lock"), timeout=0):
            # renamed first, so that no process reads an entry of which a half is deleted
            renamed = entry.rename(entry.with_name(f".{name}.cleared.partial"))
            if renamed.is_dir():
                shutil.rmtree(renamed)
            else:
                renamed.unlink()
    except Timeout:
        return False
    return True


def _in_units(size: int) -> str:
    return str(tqdm.format_sizeof(size, "B"))

"""``fer cache``: what is kept under the cache for others to find, and taking it away."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import ABOUT, home
from fer_lightning.core.parser import Parser


def _store(entry: Path) -> str:
    counts = json.loads((entry / "store.json").read_text())["counts"]
    return ", ".join(f"{sum(by_class.values())} {split} faces" for split, by_class in counts.items())


def _stage(entry: Path) -> str:
    stage = json.loads((entry / "stage.json").read_text())
    recall = 100 * stage["minival_macro_recall"]
    return f"{stage['name']}, {stage['epochs']} epochs, minival macro recall {recall:.1f}"


def _embeddings(entry: Path) -> str:
    (entry / "embeddings.npy").stat()
    return (entry / ABOUT).read_text()


def _drawn(entry: Path) -> str:
    drawn = json.loads((entry / "parameters.json").read_text())
    return f"{drawn['rows']} drawn training faces, seed {drawn['seed']}"


KINDS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "synthetic": ("drawn faces", _drawn),
    "stores": ("prepared faces", _store),
    "weights": ("pre-trained backbones", lambda entry: entry.stem),
    "embeddings": ("frozen backbones' embeddings", _embeddings),
    "stages": ("first stages", _stage),
}
"""What is kept: the folder, what it holds in words, and what an entry is in words."""


@dataclass(frozen=True)
class Entry:
    """Something kept: its kind, its place, what it is in words, its size in bytes, when it was last written."""

    kind: str
    path: Path
    about: str
    size: int
    written: float


def entries(kind: str) -> list[Entry]:
    """Everything of a kind, the largest first; what was not finished, too."""
    folder = home() / kind
    found = [path for path in folder.iterdir() if path.suffix != ".lock"] if folder.is_dir() else []
    return sorted((_entry(kind, path) for path in found), key=lambda entry: -entry.size)


def _entry(kind: str, path: Path) -> Entry:
    try:
        about = "half written" if path.name.startswith(".") else KINDS[kind][1](path)
    except (OSError, ValueError, KeyError):
        about = "not finished"
    stats = [file.stat() for file in (path, *path.rglob("*")) if file.is_file()]
    return Entry(
        kind, path, about, sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)
    )


def clear(entry: Entry) -> bool:
    """Take an entry away, unless somebody is making it right now. Returns whether it is gone.

    It loses its name first, so that nobody meets a half of it.
    """
    name = entry.path.name
    if name.startswith("."):  # a temporary neighbour of what it was to become: .NAME.RANDOM.partial
        name = name[1:].rsplit(".", 2)[0]
    try:
        with FileLock(entry.path.with_name(f"{name}.lock"), timeout=0):
            gone = entry.path.with_name(f".{name}.cleared.partial")
            entry.path.rename(gone)
            if gone.is_dir():
                shutil.rmtree(gone)
            else:
                gone.unlink()
    except Timeout:
        return False
    return True


def cache(words: Sequence[str]) -> int:
    """Run ``fer cache`` with these words. Returns the exit code: 1 where something was in use and stays.

    Raises:
        UserError: there is no such kind, or none is named.
    """
    options = _parser().parse_args(words)
    if unknown := [kind for kind in options.kinds if kind not in (*KINDS, "all")]:
        raise UserError(f"fer cache: no kind {unknown[0]!r}; there is {', '.join(KINDS)}, or all")
    if options.action == "clear" and not options.kinds:
        raise UserError(f"fer cache clear: say what: {', '.join(KINDS)}, or all")
    kinds = [kind for kind in KINDS if kind in options.kinds or not options.kinds or "all" in options.kinds]
    return _clear(kinds) if options.action == "clear" else _list(kinds)


def _list(kinds: Sequence[str]) -> int:
    print(home())
    for kind in kinds:
        found = entries(kind)
        print(f"{kind:<12}{_bytes(sum(entry.size for entry in found)):>9}  {KINDS[kind][0]}, {len(found)}")
        for line in _lines(found):
            print(line)
    return 0


def _lines(found: Sequence[Entry]) -> Iterator[str]:
    for entry in found:
        age = (time.time() - entry.written) / 86400
        name = entry.path.name if len(entry.path.name) <= 30 else f"{entry.path.name[:27]}..."
        yield f"  {name:<30}{_bytes(entry.size):>9}  {age:4.0f} days  {entry.about}"


def _clear(kinds: Sequence[str]) -> int:
    stays = 0
    for kind in kinds:
        found = entries(kind)
        gone = [entry for entry in found if clear(entry)]
        print(f"{kind}: {len(gone)} cleared, {_bytes(sum(entry.size for entry in gone))}")
        for entry in found:
            if entry not in gone:
                stays += 1
                print(f"  {entry.path} is in use and stays")
    return 1 if stays else 0


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _parser() -> Parser:
    parser = Parser(
        prog="fer cache",
        description="What is kept under the cache (FER_CACHE): it is made again where it is missing.",
    )
    parser.add_argument("action", choices=["list", "clear"])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; list: all; clear: or all")
    return parser

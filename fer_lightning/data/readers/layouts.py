"""Where a data set lies: layouts found below a root, and files of which none leads out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, inside

OUT = "a link out of the data set"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Layout:
    """How a data set lies on a disk.

    Attributes:
        option: its name in conf/data.
        title: what messages call it.
        sign: what its root holds, for messages.
        holds: whether a folder holds that; a look at a few names.
    """

    option: str
    title: str
    sign: str
    holds: Callable[[Path], bool]

    def existing(self, root: str | None) -> Path:
        """The root as an absolute folder; see the function."""
        return existing(self.title, root, self.sign)

    def find(self, root: str | None) -> Path:
        """The root, or the one folder in it that has this layout.

        Raises:
            UserError: no root, or nothing or too much of this layout in it.
        """
        folder = self.existing(root)
        found = recognised(folder, [self])
        if len(found) > 1:
            raise UserError(f"{self.title}: {' and '.join(str(p) for _, p in found)} fit; say data.root=<one>")
        if not found:
            raise UserError(f"{self.title}: no {self.sign} in {folder} nor in its folders; {holdings(folder)}")
        return found[0][1]


def existing(title: str, root: str | None, sign: str) -> Path:
    """A data set's root as an absolute folder.

    Raises:
        UserError: none is given, or it is not a folder.
    """
    advice = f"say data.root=<the folder that holds {sign}>"
    if root is None:
        raise UserError(f"{title}: no folder given; {advice}")
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{title}: {root} is not a folder; {advice}")
    return folder


def recognised(folder: Path, layouts: Sequence[Layout]) -> list[tuple[Layout, Path]]:
    """The layouts that a folder has; where it has none, those of the folders in it."""
    below = [folder / name for name in folders_in(folder) if is_folder(folder, name)]
    for places in ([folder], below):
        if found := [(layout, place) for place in places for layout in layouts if layout.holds(place)]:
            return found
    return []


def is_file(root: Path, name: str) -> bool:
    """Whether a file is there, and no link leads it out of the root."""
    try:
        return (root / name).is_file() and inside(root, root / name)
    except OSError:  # a name that is longer than a file's can be
        return False


def is_folder(root: Path, name: str) -> bool:
    """Whether a folder is there, and no link leads it out of the root."""
    return (root / name).is_dir() and inside(root, root / name)


def holdings(folder: Path) -> str:
    """What a folder holds, for a message."""
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
    return f"it holds: {', '.join(names[:12]) + more if names else 'nothing'}"


def files_in(root: Path, folder: str, faults: list[Fault]) -> list[str]:
    """Names of the files in a folder of the root, sorted.

    Links that lead out of the root become faults, and so do names that are no text: a manifest is text.
    """
    if not (root / folder).is_dir():
        return []
    names: list[str] = []
    wrong: list[tuple[str, str, str]] = []
    if inside(root, root / folder):
        with os.scandir(root / folder) as entries:
            for entry in entries:
                text = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
                if entry.is_symlink() and not inside(root, Path(entry.path)):
                    wrong.append((text, "outside_root", OUT))
                elif text != entry.name:
                    wrong.append((text, "unreadable_name", "its name is not in UTF-8"))
                elif not text.startswith("."):
                    names.append(text)
    else:
        wrong.append(("", "outside_root", OUT))
    faults += [Fault(kind, f"{folder}/{text}", detail) for text, kind, detail in sorted(wrong)]
    return sorted(names)


def folders_in(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones; some may be links that lead out of it."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "_")))


def is_picture(name: str) -> bool:
    """Whether a file's name ends like a picture's."""
    return name.lower().endswith(PICTURES)

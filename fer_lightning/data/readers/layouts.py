"""Where a data set lies on disk: recognise its layout, and list files without following links out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault, inside

LINK_OUT = "a link out of the data set"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        option: name of the data set's option in ``conf/data``.
        title: name of the data set in messages.
        sign: what its root contains, for messages.
        holds: tells from a few names whether a folder has this layout.
    """

    option: str
    title: str
    sign: str
    holds: Callable[[Path], bool]

    def find(self, root: str | None) -> Path:
        """Return the root, or the only folder in it that has this layout.

        Raises:
            UserError: the root is missing, or none or several folders have this layout.
        """
        folder = require_folder(self.title, root, self.sign)
        matches = matching_layouts(folder, [self])
        if len(matches) > 1:
            several = " and ".join(str(path) for _, path in matches)
            raise UserError(f"{self.title}: {several} have its layout; set data.root=<one of them>")
        if not matches:
            raise UserError(f"{self.title}: no {self.sign} in {folder} or its folders; {holdings(folder)}")
        return matches[0][1]


def require_folder(title: str, root: str | None, sign: str) -> Path:
    """Return the root of a data set as an absolute path.

    Args:
        title: name of the data set in messages.
        root: the root as the user gave it.
        sign: what the root contains, for messages.

    Raises:
        UserError: no root is given, or it is not a folder.
    """
    advice = f"set data.root=<the folder that holds {sign}>"
    if root is None:
        raise UserError(f"{title}: no folder given; {advice}")
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{title}: {root} is not a folder; {advice}")
    return folder


def matching_layouts(folder: Path, layouts: Sequence[Layout]) -> list[tuple[Layout, Path]]:
    """Return the layouts that a folder has; if it has none, those of its subfolders."""
    below = [folder / name for name in folders_in(folder) if is_folder(folder, name)]
    for candidates in ([folder], below):
        if matches := [(layout, path) for path in candidates for layout in layouts if layout.holds(path)]:
            return matches
    return []


def is_file(root: Path, name: str) -> bool:
    """Return whether a file exists and no link leads it out of the root."""
    try:
        return (root / name).is_file() and inside(root, root / name)
    except OSError:  # the name is longer than the file system allows
        return False


def is_folder(root: Path, name: str) -> bool:
    """Return whether a folder exists and no link leads it out of the root."""
    return (root / name).is_dir() and inside(root, root / name)


def holdings(folder: Path) -> str:
    """Return a phrase for messages that lists what a folder contains."""
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
    return f"it holds: {', '.join(names[:12]) + more if names else 'nothing'}"


def files_in(root: Path, folder: str, faults: list[Fault]) -> list[str]:
    """Return the sorted names of the files in a folder of the root, without hidden ones.

    Links that lead out of the root become faults, and so do names that are not valid UTF-8, since a manifest
    stores names as text.
    """
    if not (root / folder).is_dir():
        return []
    if not inside(root, root / folder):
        faults.append(Fault("outside_root", f"{folder}/", LINK_OUT))
        return []
    names = []
    for entry in sorted(os.scandir(root / folder), key=lambda entry: os.fsencode(entry.name)):
        text = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        if entry.is_symlink() and not inside(root, Path(entry.path)):
            faults.append(Fault("outside_root", f"{folder}/{text}", LINK_OUT))
        elif text != entry.name:
            faults.append(Fault("unreadable_name", f"{folder}/{text}", "its name is not in UTF-8"))
        elif not text.startswith("."):
            names.append(text)
    return names


def folders_in(root: Path) -> list[str]:
    """Return the sorted names of the subfolders, without hidden ones; some may be links that lead out."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "_")))


def is_picture(name: str) -> bool:
    """Return whether a file's name ends like that of a picture."""
    return name.lower().endswith(PICTURES)

"""Where a data set lies on disk: recognise its layout, and list files without following links out of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.data.manifest import LINK_OUT, Fault, inside, links_hint

PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pnm"),
)
"""Endings of pictures' names; a name without an ending may be a picture's, too."""

SYSTEM = re.compile(
    r"\..*|__MACOSX|@eaDir|(eh)?thumbs\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information|lost\+found",
    re.IGNORECASE,
)
"""Names of files and folders that the operating system or a tool has put there, hidden ones among them."""

ENTRIES_LOOKED_AT = 200_000  # for a message; a wrong root may be a whole disk


@dataclass(frozen=True)
class Folder:
    """Folder that a data set is read from.

    Attributes:
        path: its path.
        follow_links: whether links that lead out of it are followed; else they are as good as absent.
    """

    path: Path
    follow_links: bool = False

    def may_read(self, path: Path) -> bool:
        """Return whether no link leads a path out of the folder, or links are followed."""
        return self.follow_links or inside(self.path, path)

    def is_file(self, name: str) -> bool:
        """Return whether a file exists that may be read."""
        try:
            return (self.path / name).is_file() and self.may_read(self.path / name)
        except OSError:  # the name is longer than the file system allows
            return False

    def is_folder(self, name: str) -> bool:
        """Return whether a folder exists that may be read."""
        return (self.path / name).is_dir() and self.may_read(self.path / name)

    def folders(self, name: str = ".") -> list[str]:
        """Return the sorted names of the visible folders in a folder; some may be links that lead out."""
        entries = scan(self.path / name)
        hidden = re.compile(rf"_.*|{SYSTEM.pattern}", re.IGNORECASE)
        return [entry.name for entry in entries if _is_folder(entry) and not hidden.fullmatch(entry.name)]

    def files(self, name: str, faults: list[Fault]) -> list[str]:
        """Return the sorted names of the files in a folder, without hidden ones.

        Links that may not be followed become faults, and so do names that are not valid UTF-8, since a manifest
        stores names as text.
        """
        if not self.is_folder(name):
            if (self.path / name).is_dir():
                faults.append(Fault("outside_root", f"{name}/", LINK_OUT))
            return []
        return [entry.name for entry in self._readable(name, faults) if not _is_folder(entry)]

    def files_below(self, name: str, faults: list[Fault]) -> Iterator[str]:
        """Yield the names of the files in a folder and in all folders below it, relative to it, sorted.

        A link to a folder that was listed before, or that lies above, is not followed.
        """
        yield from self._files_below(name, "", {os.path.realpath(self.path / name)}, faults)

    def _files_below(self, name: str, prefix: str, seen: set[str], faults: list[Fault]) -> Iterator[str]:
        yield from (f"{prefix}{file}" for file in self.files(name, faults))
        if not self.is_folder(name):
            return
        here = Path(os.path.realpath(self.path / name))
        for entry in self._readable(name, []):
            target = os.path.realpath(entry.path)
            if _is_folder(entry) and target not in seen and not here.is_relative_to(target):
                seen.add(target)
                yield from self._files_below(f"{name}/{entry.name}", f"{prefix}{entry.name}/", seen, faults)

    def _readable(self, name: str, faults: list[Fault]) -> list[os.DirEntry[str]]:
        """Return the sorted entries of a folder that may be read and have a usable name; others become faults."""
        readable = []
        for entry in scan(self.path / name):
            text = as_text(entry.name)
            if SYSTEM.fullmatch(text):
                continue
            if entry.is_symlink() and not self.may_read(Path(entry.path)):
                faults.append(Fault("outside_root", f"{name}/{text}", LINK_OUT))
            elif text != entry.name:
                faults.append(Fault("unreadable_name", f"{name}/{text}", "its name is not in UTF-8"))
            else:
                readable.append(entry)
        return readable

    def holdings(self) -> str:
        """Return a phrase for messages that lists what the folder contains, with a hint at links that lead out."""
        names = [f"{entry.name}/" if _is_folder(entry) else entry.name for entry in scan(self.path)]
        more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
        return (
            f"it holds: {', '.join(map(as_text, names[:12])) + more if names else 'nothing'}{self.hint_at_links()}"
        )

    def links_out(self) -> list[str]:
        """Return the links below the folder that lead out of it; of a very large folder only the first ones."""
        return [
            os.path.relpath(entry.path, self.path)
            for entry in islice(_entries(self.path), ENTRIES_LOOKED_AT)
            if entry.is_symlink() and not inside(self.path, Path(entry.path))
        ]

    def hint_at_links(self) -> str:
        """Return an end of a message that says how many links lead out of the folder and are not followed."""
        return links_hint(0 if self.follow_links else len(self.links_out()))


def as_text(name: str) -> str:
    """Return the name of a file or folder as text; bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries, sorted by the bytes of their names.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a folder, level by level; no link is followed."""
    level = [folder]
    while level:
        below: list[Path] = []
        for path in level:
            with suppress(UserError):  # not ours to read
                entries = scan(path)
                yield from entries
                below += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        level = below


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder; one whose links go round in circles is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


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
    holds: Callable[[Folder], bool]

    def find(self, root: str | None, follow_links: bool = False) -> Folder:
        """Return the root, or the only folder in it that has this layout.

        Args:
            root: the root as the user gave it.
            follow_links: whether links that lead out of it are followed.

        Raises:
            UserError: the root is missing, or none or several folders have this layout.
        """
        folder = Folder(require_folder(self.title, root, self.sign), follow_links)
        matches = matching_layouts(folder, [self])
        if len(matches) > 1:
            several = " and ".join(str(match.path) for _, match in matches)
            raise UserError(f"{self.title}: {several} have its layout; set data.root=<one of them>")
        if not matches:
            raise UserError(f"{self.title}: no {self.sign} in {folder.path} or its folders; {folder.holdings()}")
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
    folder = user_path(root).absolute()
    if not folder.is_dir():
        raise UserError(f"{title}: {root} is not a folder; {advice}")
    return folder


def matching_layouts(folder: Folder, layouts: Sequence[Layout]) -> list[tuple[Layout, Folder]]:
    """Return the layouts that a folder has; if it has none, those of its subfolders."""
    below = [replace(folder, path=folder.path / name) for name in folder.folders() if folder.is_folder(name)]
    for candidates in ([folder], below):
        if matches := [(layout, found) for found in candidates for layout in layouts if layout.holds(found)]:
            return matches
    return []


def is_picture(name: str) -> bool:
    """Return whether a file's name ends like that of a picture, or has no ending."""
    return has_pictures_ending(name) or not Path(name).suffix


def has_pictures_ending(name: str) -> bool:
    """Return whether a file's name has the ending of a picture."""
    return Path(name).suffix.lower() in PICTURES


def one_a_stem(names: Iterable[str]) -> dict[str, str]:
    """Return the pictures among sorted file names by name without ending; the first of those that share one."""
    pictures: dict[str, str] = {}
    for name in filter(is_picture, names):
        pictures.setdefault(Path(name).stem, name)
    return pictures

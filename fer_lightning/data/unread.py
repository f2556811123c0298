"""What lies in a data set's folder and was not read: counted by place and kind, explained where it is expected."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname, normpath
from typing import NamedTuple

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Manifest, inside
from fer_lightning.data.readers.layouts import PICTURES, SYSTEM, Folder, scan

DOCUMENT = re.compile(r"(read_?me|licen[cs]e|copying|copyright|notice|citation|changelog|authors|terms)\b.*", re.I)
DOCUMENT_ENDINGS = (
    *(".md", ".txt", ".rst", ".pdf", ".html", ".htm", ".doc", ".docx", ".bib", ".cff"),
    *(".csv", ".tsv", ".xls", ".xlsx", ".json", ".yaml", ".yml"),
)
ENOUGH = 0.01
"""Share of a set's rows that as many unexplained files may come to before a result is called spoilt."""

_PUBLISHED = {
    "affectnet": [(r"(.*/)?automatically[^/]*(/.*)?", "AffectNet's automatic part, for data.automatic=true")],
    "affectnet_2021": [(r"(train|val)_set/annotations/[^/]*_lnd\.npy", "AffectNet's landmarks")],
    "rafdb": [(r"Image/original/.*|Annotation/.*", "RAF-DB's original pictures and annotations of them")],
    "yolo": [(r".*\.cache", "a cache of Ultralytics")],
}
"""What is published with a set and is not used: patterns of paths and what they are, by the set's option."""

_LINK_OUT, _DANGLING = "link that leads out", "link to nothing"
_NO_FOLDER, _NO_FILE = "folder that cannot be read", "neither file nor folder"
_OTHER_NAME = "read through a link"
_SAME_NAME = "one of two files with the same name but for the ending"
_NO_CLASS = "pictures in a folder that names no class"


@dataclass(frozen=True)
class Unread:
    """Files of one kind and place that were not read.

    Attributes:
        place: their folder, relative to the data set's; "." is that folder.
        what: kind of the files, such as "*.heic" or "pictures without a row".
        count: their number.
        expected: whether they are no part of what is to be read.
        why: the reason that they are expected; empty otherwise.
        spoils: whether they look like data that a result should be made with.
    """

    place: str
    what: str
    count: int
    expected: bool
    why: str
    spoils: bool

    def __str__(self) -> str:
        """Return number, kind and place in words."""
        place = "" if self.place == "." else f" in {self.place}"
        return f"{self.count:,} {self.what}{place}" + (f" ({self.why})" if self.why else "")


class _Found(NamedTuple):
    folder: str
    name: str
    problem: str  # why it can be no row; "" for a file

    @property
    def path(self) -> str:
        return self.name if self.folder == "." else f"{self.folder}/{self.name}"


def unread(manifest: Manifest) -> list[Unread]:
    """Return what lies in the data set's folder and is no row, no fault, left out by its label or an annotation.

    No file is opened. What spoils a result comes first, what is expected last.
    """
    folder = Folder(manifest.folder or manifest.root, manifest.follow_links)
    kinds = _Kinds(manifest, folder)
    counts = Counter(kinds.of(found) for found in _not_known(folder, kinds.known))
    entries = [Unread(place, what, n, bool(why), why, spoils) for (place, what, why, spoils), n in counts.items()]
    return sorted(
        entries, key=lambda entry: (entry.expected, not entry.spoils, -entry.count, entry.place, entry.what)
    )


def unexpected(entries: Iterable[Unread]) -> int:
    """Return the number of files that were not read and should perhaps have been."""
    return sum(entry.count for entry in entries if not entry.expected)


def is_too_much(entries: Iterable[Unread], rows: int) -> bool:
    """Return whether files that were not read would spoil a result.

    Args:
        entries: what was not read.
        rows: number of rows that were read.
    """
    entries = list(entries)
    return any(entry.spoils for entry in entries) or unexpected(entries) > ENOUGH * rows


def in_words(entries: Iterable[Unread]) -> str:
    """Return one sentence on the files that were not read and are not expected; "" if there are none."""
    told = [entry for entry in entries if not entry.expected]
    if not told:
        return ""
    number, first = unexpected(told), ", ".join(map(str, told[:3]))
    more = ", ..." if len(told) > 3 else ""
    return f"{number:,} {files(number)} not read: {first}{more}; `fer doctor ROOT` tells all"


def files(number: int) -> str:
    """Return the beginning of a sentence about that many files."""
    return "file was" if number == 1 else "files were"


class _Kinds:
    """What a manifest's files tell about those that were not read."""

    def __init__(self, manifest: Manifest, folder: Folder) -> None:
        below = os.path.relpath(manifest.root, folder.path).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        rows = [] if manifest.embedded else _clean(prefix, manifest.rows["path"].unique().to_pylist())
        pictures = {*rows, *_clean(prefix, manifest.left_out)}
        faults = [fault.path.rstrip("/") for fault in manifest.faults]
        faults += [re.sub(r"#\d+$", "", path) for path in faults]  # as ``unique_ids`` and rows of files are named
        self.known = {*pictures, *manifest.annotations, *_clean(prefix, faults), *faults}
        self.picture_folders = {dirname(path) or "." for path in pictures}
        self.stems = {os.path.splitext(path)[0] for path in pictures}  # noqa: PTH122  (faster for a million paths)
        self.no_class = tuple(
            fault.path for fault in manifest.faults if fault.kind == "unknown_label" and fault.path.endswith("/")
        )
        self.known -= {path.rstrip("/") for path in self.no_class}
        self.embedded_in = {Path(path).suffix for path in manifest.annotations if manifest.embedded}
        # where each class has a folder, one beside those may be a class of which no picture is read
        self.above = {dirname(path) or "." for path in self.picture_folders if manifest.name == "folder"}
        self.published = _PUBLISHED.get(manifest.name, [])

    def of(self, found: _Found) -> tuple[str, str, str, bool]:
        """Return place, kind, reason that it is expected, and whether it would spoil a result."""
        place, name = found.folder, found.name
        if system := next((part for part in found.path.split("/") if SYSTEM.fullmatch(part)), None):
            return (
                ".",
                system if system.startswith(("__", "@")) else _kind(system),
                "system or hidden files",
                False,
            )
        for pattern, why in self.published:
            if re.fullmatch(pattern, found.path, re.IGNORECASE):
                return found.path.split("/")[0], _kind(name), why, False
        if found.problem == _OTHER_NAME:
            return place, _kind(name), "read by another name, a link", False
        if found.problem:
            return place, found.problem, "", found.problem in (_LINK_OUT, _NO_FOLDER)
        ending = Path(name).suffix.lower()
        is_picture = ending in PICTURES
        if no_class := next((prefix for prefix in self.no_class if found.path.startswith(prefix)), None):
            return no_class.rstrip("/"), _NO_CLASS if is_picture else _kind(name), "", is_picture
        in_class_folder = self._in_class_folder(place)
        if not in_class_folder and _is_document(found):
            return place, _kind(name), "documents", False
        if is_picture and os.path.splitext(found.path)[0] in self.stems:  # noqa: PTH122
            return place, _SAME_NAME, "", False
        if is_picture:
            return place, "pictures without a row", "", in_class_folder and place not in self.picture_folders
        beside = (dirname(place) or ".") in self.above and place != "." and ending not in DOCUMENT_ENDINGS
        return place, _kind(name), "", in_class_folder or beside or ending in self.embedded_in

    def _in_class_folder(self, folder: str) -> bool:
        """Return whether a folder is one that pictures were read from, or lies below such a one."""
        while folder not in ("", "."):
            if folder in self.picture_folders:
                return True
            folder = dirname(folder)
        return "." in self.picture_folders


def _kind(name: str) -> str:
    ending = Path(name).suffix.lower()
    return f"*{ending}" if ending else "files without an ending" if not name.startswith(".") else name


def _is_document(found: _Found) -> bool:
    at_the_top = found.folder == "." and Path(found.name).suffix.lower() in DOCUMENT_ENDINGS
    return at_the_top or DOCUMENT.fullmatch(found.name) is not None


def _clean(prefix: str, paths: Iterable[str]) -> Iterator[str]:
    """Yield paths relative to the data set's folder, in one way of writing them."""
    for path in paths:
        yield prefix + (normpath(path) if "//" in path or "./" in path else path)


def _not_known(folder: Folder, known: set[str]) -> Iterator[_Found]:
    """Yield what is below a folder and not known, by its path or, where there are links, by its target."""
    linked: list[str] = []
    rest = [found for found in _walk(folder, linked) if found.path not in known]
    if rest and linked:
        folders = {place: os.path.realpath(folder.path / place) for place in {dirname(path) for path in known}}
        places = {f"{folders[dirname(path)]}/{path.rpartition('/')[2]}" for path in known}
        targets = {os.path.realpath(folder.path / path) for path in linked if path in known}
        for found in rest:
            place = f"{os.path.realpath(folder.path / found.folder)}/{found.name}"
            if place not in places:
                yield found._replace(problem=_OTHER_NAME) if place in targets and not found.problem else found
    else:
        yield from rest


def _walk(folder: Folder, linked: list[str]) -> Iterator[_Found]:
    """Yield the files below a folder, and links and folders that nothing can be read from.

    Args:
        folder: the folder; a folder in it that several links lead to is walked through once.
        linked: receives the links that lead to something inside, or are followed.
    """
    seen: set[str] = set()
    waiting = [("", folder.path)]
    while waiting:
        place, path = waiting.pop()
        here = Path(os.path.realpath(path))
        if str(here) in seen:
            continue
        seen.add(str(here))
        try:
            entries = scan(path)
        except UserError:
            yield _Found(dirname(place) or ".", place.rpartition("/")[2], _NO_FOLDER)
            continue
        for entry in entries:
            name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")  # as readers name it in faults
            found = _Found(place or ".", name, "")
            if entry.is_symlink():
                linked.append(found.path)
            if problem := _problem(entry, folder):
                yield found._replace(problem=problem)
            elif not entry.is_dir():
                yield found
            elif not entry.is_symlink() or (
                folder.follow_links and not here.is_relative_to(os.path.realpath(entry))
            ):
                waiting.append((found.path, Path(entry.path)))


def _problem(entry: os.DirEntry[str], folder: Folder) -> str:
    """Return why an entry can be no row: a link that is not followed or leads nowhere, a pipe; "" if it can."""
    if entry.is_symlink():
        if not folder.follow_links and not inside(folder.path, Path(entry.path)):
            return _LINK_OUT
        if not os.path.exists(entry.path):  # noqa: PTH110  (it raises for no link)
            return _DANGLING
    return "" if entry.is_file() or entry.is_dir() else _NO_FILE

"""What the labels of a data set are called here: its codes, known names, and the user's ``data.labels``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fer_lightning.core.emotions import EMOTIONS, SYNONYMS, known_name
from fer_lightning.core.errors import UserError, did_you_mean
from fer_lightning.data.readers.layouts import Folder

Labels = Mapping[str, str | None]
"""Names of classes for a data set's own labels; None leaves a label out."""


@dataclass(frozen=True)
class Names:
    """What the labels of a data set are called here.

    Attributes:
        ours: our name by label, as ``plain`` writes it. The name of a label that ``data.labels`` leaves out is
            none of ``data.classes``.
        classes: class names as ``chosen_classes`` takes them: those of all labels that are not left out.
        unknown: labels of the set that name no class.
    """

    ours: dict[str, str]
    classes: tuple[str, ...]
    unknown: tuple[str, ...]

    def get(self, label: object) -> str | None:
        """Return our name for a label, or None where it names no class."""
        return self.ours.get(plain(label))


def plain(label: object) -> str:
    """Return a label as labels are compared: lower case, without spaces around it; 3 for 3.0 and 03."""
    text = " ".join(str(label).lower().split())
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[+-]?\d{1,9}(\.0*)?", text, re.ASCII) else text


def label_names(
    title: str,
    found: Iterable[object],
    classes: Sequence[str] | None,
    labels: Labels | None = None,
    codes: Mapping[int, str] | None = None,
) -> Names:
    """Return what the labels of a data set are called here.

    Args:
        title: name of the data set in messages.
        found: labels that the set has.
        classes: class names that the user added to the known ones.
        labels: ``data.labels``: an emotion or a name of ``classes`` for a label of the set, None to leave it
            out. It counts more than the codes and the known names.
        codes: names of the label numbers of sets that have such.

    Raises:
        UserError: ``labels`` has a label that the set does not have, or a value that is no class.
    """
    coded = {str(code): name for code, name in (codes or {}).items()}
    wanted = {plain(label): name for label, name in (labels or {}).items()}
    shown = {**{plain(name): name for name in coded.values()}, **coded, **{plain(one): str(one) for one in found}}
    for label, name in wanted.items():
        if label not in shown:
            has = ", ".join(label if label in coded else name for label, name in shown.items())
            raise UserError(
                f"data.labels: {title} has no label {label!r}{did_you_mean(label, shown)}; it has: {has[:500]}"
            )
        if name is not None and known_name(str(name), classes or ()) is None:
            hint = did_you_mean(str(name), (*EMOTIONS, *(classes or ())))
            raise UserError(
                f"data.labels: {label} is called {name!r}, which is no class{hint}; give an "
                f"emotion ({', '.join(EMOTIONS)}), a name of data.classes, or null to leave it out"
            )
    ours: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for label in shown:
        code = coded.get(label)
        key = label if label in wanted or code is None else plain(code)
        if key in wanted and wanted[key] is None:
            left_out[label] = code or known_name(label, classes or ()) or shown[label]
        elif name := known_name(str(wanted.get(key, code or label)), classes or ()):
            ours[label] = name
    known = tuple(dict.fromkeys(ours.values()))
    for label, name in left_out.items():
        ours[label] = f"{name}, by data.labels" if name in known else name
    return Names(ours, known, tuple(shown[label] for label in shown if label not in ours))


def coded_classes(codes: Mapping[int, str], labels: Labels | None) -> list[str]:
    """Return the class names that a set with label numbers has once ``data.labels`` is heard."""
    wanted = {plain(label): name for label, name in (labels or {}).items()}
    pairs = [(plain(code), name) for code, name in codes.items()]
    names = [wanted.get(code, wanted.get(plain(name), name)) for code, name in pairs]
    names += [name for label, name in wanted.items() if label not in dict(pairs)]
    return [known_name(str(name)) or str(name) for name in names if name is not None]


def hint_at_labels(label: str, classes: Sequence[str] | None = None) -> str:
    """Return how to say what a label that names no class stands for."""
    close = difflib.get_close_matches(plain(label), [*EMOTIONS, *SYNONYMS, *(classes or ())], 1, 0.7)
    name = (known_name(close[0], classes or ()) or close[0]) if close else "<class, or null to leave it out>"
    key = label if re.fullmatch(r"[\w ./-]+", label) else f'"{label}"'
    word = f"data.labels={{{key}: {name}}}"
    return f"did you mean {word}?" if close else f"say {word}"


def chosen_classes(
    title: str,
    classes: Sequence[str] | None,
    known: Collection[str],
    unknown: Sequence[str] = (),
    folder: Folder | None = None,
) -> tuple[str, ...]:
    """Return the classes to read: those that the user names, else all emotions that the data set has.

    Args:
        title: name of the data set in messages.
        classes: class names that the user asks for.
        known: class names of the data set.
        unknown: its labels that name no class, which a class may be hidden under.
        folder: its folder, where links that are not followed may hide a class.

    Raises:
        UserError: the data set has no such label.
    """
    if classes is None:
        return tuple(name for name in EMOTIONS if name in known)
    if lacking := [name for name in classes if name not in known]:
        labels = ", ".join(dict.fromkeys(known))
        hints = "".join(f"; {label} names no class ({hint_at_labels(label, classes)})" for label in unknown[:5])
        hints += folder.hint_at_links() if folder else ""
        raise UserError(
            f"{title} has no class {lacking[0]!r}; it has: {labels}{hints}; set data.classes=[...] without it"
        )
    return tuple(classes)

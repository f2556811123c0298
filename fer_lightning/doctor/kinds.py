"""Kinds of faults: the meaning of each, and whether it would spoil a result."""

from __future__ import annotations

MEANING = {
    "cross_split_duplicate": "a held-out picture is pixel-identical to one of another split",
    "cross_split_near_duplicate": "a held-out picture is almost identical to one of another split",
    "person_across_splits": "a person has pictures in several splits",
    "labels_disagree": "the same picture has different labels",
    "empty_class": "a split has no usable picture of a class",
    "missing": "the picture is missing",
    "zero_byte": "the file is empty",
    "unreadable": "not a picture, or a broken one",
    "too_large": "more pixels than a photograph of a face has",
    "outside_root": "the path or a link leads out of the data set's folder; it was not followed",
    "unreadable_name": "the file's name is not UTF-8 text",
    "unusable_box": "the face's box has no area or no numbers",
    "box_outside": "the face's box has no pixel of the picture",
    "broken_line": "a line of an annotation file has too few or too many cells",
    "unknown_label": "a label without a known meaning",
    "unknown_split": "a row of an unknown split",
    "no_path": "a row without a picture's name",
    "bad_votes": "votes that are not counts",
    "missing_annotation": "a picture without a label",
    "unreadable_annotation": "a label that cannot be read",
    "wrong_extension": "the ending of the file's name is that of another format",
    "unusual_format": "16 bits a channel, or colours for print; read as 8 bits",
    "box_clipped": "the face's box reaches beyond the picture",
    "tiny_face": "the short side is under 32 pixels",
    "grey": "a grey picture among coloured ones",
    "duplicate": "pixel-identical to an earlier picture of its split",
    "near_duplicate": "almost identical to an earlier picture of its split",
}
"""Meaning of each kind in a report, the worst kind first; readers may report further kinds."""

_ORDER = list(MEANING)
_FIRST_HARMLESS = _ORDER.index("wrong_extension")  # harmless kinds come last

HARMLESS = frozenset(_ORDER[_FIRST_HARMLESS:])
"""Kinds that spoil no result: the rows are used anyway."""


def spoils(kind: str) -> bool:
    """Return whether a fault of this kind would spoil a result, or leaves out rows or pictures."""
    return kind not in HARMLESS


def rank(kind: str) -> int:
    """Return the position of a kind in a report; unlisted kinds of readers come after the bad ones."""
    return _ORDER.index(kind) if kind in MEANING else _FIRST_HARMLESS

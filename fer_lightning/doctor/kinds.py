"""Kinds of faults: what each means, and whether it would spoil a result."""

from __future__ import annotations

MEANING = {
    "cross_split_duplicate": "a held-out picture is pixel-identical to one of another split",
    "cross_split_near_duplicate": "a held-out picture is all but identical to one of another split",
    "labels_disagree": "the same picture has different labels",
    "empty_class": "a split has no usable picture of a class",
    "missing": "the picture is not there",
    "zero_byte": "the file is empty",
    "unreadable": "not a picture, or a broken one",
    "too_large": "more pixels than a picture of a face can have",
    "outside_root": "the path or a link leads out of the data set's folder; it was not followed",
    "unreadable_name": "the file's name is no text",
    "unusable_box": "the face's box is no box",
    "box_outside": "the face's box has no pixel of the picture",
    "broken_line": "a line of an annotation file has too few or too many cells",
    "unknown_label": "a label that stands for nothing known",
    "unknown_split": "a row of no known split",
    "no_path": "a row without a picture's name",
    "bad_votes": "votes that are not counts",
    "missing_annotation": "a picture without a label",
    "unreadable_annotation": "a label that cannot be read",
    "wrong_extension": "the file's name does not say its format",
    "unusual_format": "16 bits a channel, or colours for print; read as 8 bits",
    "box_clipped": "the face's box reaches beyond the picture",
    "tiny_face": "the short side is under 32 pixels",
    "grey": "a grey picture among coloured ones",
    "duplicate": "pixel-identical to an earlier picture of its split",
    "near_duplicate": "all but identical to an earlier picture of its split",
}
"""What a report says of each kind, the worst first; readers may find further ones."""

HARMLESS = frozenset(
    (
        "wrong_extension",
        "unusual_format",
        "box_clipped",
        "tiny_face",
        "grey",
        "duplicate",
        "near_duplicate",
    )
)
"""Kinds that spoil no result: the rows are used all the same."""


def spoils(kind: str) -> bool:
    """Whether a fault of this kind would spoil a result, or leaves rows or pictures out."""
    return kind not in HARMLESS


def rank(kind: str) -> int:
    """Where a kind stands in a report; those of readers not listed here come after the bad ones."""
    order = list(MEANING)
    return order.index(kind) if kind in MEANING else order.index("wrong_extension")

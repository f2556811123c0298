"""Emotion names and their orders. Labels travel by name; an index means nothing outside its data set."""

from __future__ import annotations

from collections.abc import Collection

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""The eight AffectNet classes in AffectNet's order; the default order of every classifier here."""

SYNONYMS = {
    "normal": "neutral",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "fearful": "fear",
    "afraid": "fear",
    "disgusted": "disgust",
    "angry": "anger",
    "contemptuous": "contempt",
    "nf": "not a face",
}
"""What data sets call our names."""

NO_EMOTION = ("none", "uncertain", "unknown", "non-face", "not a face")
"""Labels that data sets have beside emotions."""

AFFECTNET_CODES = {
    **dict(enumerate(EMOTIONS)),
    8: "none",
    9: "uncertain",
    10: "non-face",
}
"""AffectNet's integer annotation -> name (Mollahosseini et al. 2017)."""

AFFECTNET_TRAIN_COUNTS = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
"""Training images of AffectNet's manually annotated part by class, in the order of EMOTIONS."""


def known_name(name: str, classes: Collection[str] = ()) -> str | None:
    """Our name for what a data set calls a class, in any case of letters; None: unknown.

    Args:
        name: as it stands in the data set.
        classes: further names that are known, such as those of the user's ``data.classes``.
    """
    plain = name.strip().lower()
    plain = SYNONYMS.get(plain, plain) if plain not in classes else plain
    return plain if plain in (*EMOTIONS, *NO_EMOTION, *classes) else None

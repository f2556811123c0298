"""Names of emotions. Labels are passed by name, since an index has no meaning outside its data set."""

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
"""Names that data sets use, with ours."""

NO_EMOTION = ("none", "uncertain", "unknown", "non-face", "not a face")
"""Labels of data sets that are no emotions."""

AFFECTNET_CODES = {
    **dict(enumerate(EMOTIONS)),
    8: "none",
    9: "uncertain",
    10: "non-face",
}
"""AffectNet's integer annotations with their names (Mollahosseini et al. 2017)."""

AFFECTNET_TRAIN_COUNTS = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
"""Training images of AffectNet's manually annotated part by class, in the order of EMOTIONS."""


def known_name(name: str, classes: Collection[str] = ()) -> str | None:
    """Return our name for a class of a data set, regardless of upper and lower case; None if it is unknown.

    Args:
        name: the name in the data set.
        classes: further known names, such as those of the user's ``data.classes``.
    """
    plain = name.strip().lower()
    plain = SYNONYMS.get(plain, plain) if plain not in classes else plain
    return plain if plain in (*EMOTIONS, *NO_EMOTION, *classes) else None

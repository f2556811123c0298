"""Emotion names and their orders. Labels travel by name; an index means nothing outside its data set."""

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""The eight AffectNet classes in AffectNet's order; the default order of every classifier here."""

AFFECTNET_CODES = {
    **dict(enumerate(EMOTIONS)),
    8: "none",
    9: "uncertain",
    10: "non-face",
}
"""AffectNet's integer annotation -> name (Mollahosseini et al. 2017)."""

AFFECTNET_TRAIN_COUNTS = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
"""Training images of AffectNet's manually annotated part by class, in the order of EMOTIONS."""

"""Published numbers of pictures per class of the known data sets."""

from __future__ import annotations

from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS

Counts = dict[str, dict[str, int]]
"""Pictures by split and class."""

_FER2013 = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_RAFDB = ("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral")
_AFFECTNET_TRAIN = dict(zip(EMOTIONS, AFFECTNET_TRAIN_COUNTS, strict=True))


def _named(names: tuple[str, ...], **splits: tuple[int, ...]) -> Counts:
    return {split: dict(zip(names, counts, strict=True)) for split, counts in splits.items()}


PUBLISHED: dict[str, Counts] = {
    "affectnet": {"train": _AFFECTNET_TRAIN, "val": dict.fromkeys(EMOTIONS, 500)},
    "affectnet_2021": {"train": _AFFECTNET_TRAIN, "val": {**dict.fromkeys(EMOTIONS, 500), "contempt": 499}},
    "fer2013": _named(
        _FER2013,
        train=(3995, 436, 4097, 7215, 4830, 3171, 4965),
        val=(467, 56, 496, 895, 653, 415, 607),
        test=(491, 55, 528, 879, 594, 416, 626),
    ),
    "ferplus": _named(  # by the majority rule
        EMOTIONS,
        train=(8733, 7284, 3022, 3136, 536, 116, 2098, 120),
        val=(1180, 862, 348, 411, 60, 25, 289, 16),
    ),
    "rafdb": _named(
        _RAFDB,
        train=(1290, 281, 717, 4772, 1982, 705, 2524),
        test=(329, 74, 160, 1185, 478, 162, 680),
    ),
}
"""Counts by the data set's option in ``conf/data``; splits whose counts are unknown are absent."""

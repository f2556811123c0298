"""FERPlus: the majority rule on made-up votes, and the official counts on the real faces where they are."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import ferplus
from fer_lightning.data.split import with_test_split
from fer_lightning.data.store.prepare import prepare

FULL = "(0, 0, 48, 48)"


def read(root, classes, test_split):
    return with_test_split(ferplus.read(root, classes), test_split)


def line(name, *votes, box=FULL):
    return f'{name},"{box}",' + ",".join(map(str, votes))


def put(root: Path, **splits):
    for split, lines in splits.items():
        (root / ferplus.FOLDERS[split]).mkdir(parents=True)
        (root / ferplus.FOLDERS[split] / "label.csv").write_text("\n".join(lines) + "\n")
    return str(root)


HAPPY = (0, 10, 0, 0, 0, 0, 0, 0, 0, 0)
FEAR = (0, 0, 0, 0, 0, 0, 10, 0, 0, 0)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ((10, 0, 0, 0, 0, 0, 0, 0, 0, 0), "neutral"),
        ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), "no majority"),  # exactly half is not more than half
        ((4, 0, 1, 2, 1, 1, 1, 0, 0, 0), "neutral"),  # single votes do not count: 4 of 6
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), "no majority"),
        ((0, 0, 0, 0, 0, 0, 3, 0, 2, 2), "no majority"),  # unknown and NF do count
        ((0, 0, 0, 0, 0, 0, 0, 0, 9, 1), "unknown"),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), "not a face"),
        ((0, 0, 6, 0, 0, 0, 0, 4, 0, 0), "surprise"),
    ],
)
def test_majority(votes, winner):
    names = [*ferplus.VOTES, "no majority"]
    assert names[ferplus.majority(np.array([votes]))[0]] == winner


def test_shares_of_the_votes_for_the_classes_that_are_kept():
    votes = np.array([(4, 0, 1, 4, 0, 0, 0, 0, 2, 0), (0, 0, 0, 0, 0, 0, 0, 0, 9, 1)])
    assert np.allclose(ferplus.shares(votes, ("happy", "sad", "neutral")), [[0, 0.5, 0.5], [0, 0, 0]])
    assert np.allclose(ferplus.shares(votes, ("sad", "unknown", "no majority")), [[2 / 3, 1 / 3, 0], [0, 1, 0]])


def test_rows_and_what_is_skipped(tmp_path):
    train = [
        line("a.png", *HAPPY),
        line("b.png", *FEAR, box="(4, 5, 40, 45)"),
        line("c.png", 5, 5, 0, 0, 0, 0, 0, 0, 0, 0),
        line("d.png", 0, 0, 0, 0, 0, 0, 0, 9, 0, 0),
    ]
    root = put(tmp_path / "ferplus", train=train, val=[line("e.png", *HAPPY)])
    manifest = read(str(Path(root).parent), ("happy", "fear"), "valid")
    assert manifest.root == tmp_path / "ferplus"
    assert manifest.skipped == {"train": {"no majority": 1, "contempt": 1}, "test": {}}
    a, b, e = manifest.rows.to_pylist()
    assert (a["id"], a["path"], a["label"], a["split"], a["x"]) == (
        "FER2013Train/a.png", "FER2013Train/a.png", "happy", "train", None,
    )  # fmt: skip
    assert [b[name] for name in ("x", "y", "width", "height")] == [4, 5, 36, 40]
    assert (a["votes"], b["votes"]) == ([1, 0], [0, 1])
    assert (e["path"], e["split"]) == ("FER2013Valid/e.png", "test")
    assert manifest.hash() == read(root, ("happy", "fear"), "valid").hash()


def test_what_is_wrong_is_set_aside(tmp_path):
    train = [
        line("../../a.png", *HAPPY),
        line("b.png", *HAPPY, box="nothing"),
        line("c.png", "x", *HAPPY[1:]),
        "d.png,1",
        line("e.png", *HAPPY),
    ]
    manifest = read(put(tmp_path, train=train, test=[line("f.png", *HAPPY)]), ("happy",), "test")
    assert sorted((fault.kind, fault.path) for fault in manifest.faults) == [
        ("bad_votes", "FER2013Train/c.png"),
        ("broken_line", "d.png"),
        ("outside_root", "FER2013Train/../../a.png"),
        ("unusable_box", "FER2013Train/b.png"),
    ]
    assert manifest.rows["id"].to_pylist() == ["FER2013Train/e.png", "FER2013Test/f.png"]


def test_the_users_mistakes(tmp_path):
    root = put(tmp_path / "set", train=[line("a.png", *HAPPY)], val=[line("e.png", *HAPPY)])
    with pytest.raises(UserError, match=r"no split 'test' to test on; what works here: data\.test_split=val"):
        read(root, EMOTIONS, "test")
    with pytest.raises(UserError, match=r"no split 'none' .*data\.test_split=val"):
        read(root, EMOTIONS, "none")
    assert read(root, EMOTIONS, "val").hash() == read(root, EMOTIONS, "valid").hash()
    with pytest.raises(UserError, match=r"no class 'bored'"):
        read(root, ["bored"], "valid")
    with pytest.raises(UserError, match=r"set data\.root="):
        read(None, EMOTIONS, "valid")
    with pytest.raises(UserError, match=r"not a folder"):
        read(str(tmp_path / "no"), EMOTIONS, "valid")
    (tmp_path / "empty" / "set").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no FER2013Train in .*; it holds: set"):
        read(str(tmp_path / "empty"), EMOTIONS, "valid")
    (tmp_path / "set" / "FER2013Valid" / "label.csv").unlink()
    with pytest.raises(UserError, match=r"label\.csv is missing"):
        read(root, EMOTIONS, "valid")


def test_official_counts(ferplus_root):
    manifest = read(ferplus_root, EMOTIONS, "valid")
    assert list(manifest.counts("train").values()) == [8733, 7284, 3022, 3136, 536, 116, 2098, 120]
    assert list(manifest.counts("test").values()) == [1180, 862, 348, 411, 60, 25, 289, 16]
    assert manifest.skipped == {
        "train": {"no majority": 3434, "unknown": 77, "not a face": 2},
        "test": {"no majority": 377, "unknown": 11},
    }
    assert not manifest.faults
    assert set(manifest.rows["x"].to_pylist()) == {None}


def test_twins_of_test_images_are_dropped_from_training(ferplus_root, tmp_path):
    manifest = read(ferplus_root, EMOTIONS, "valid")
    store = prepare(manifest, tmp_path, size=32, margin=0.0, codec="raw")
    assert sum(store.meta.test_leaks.values()) == 231
    assert {name: store.meta.test_leaks[name] for name in ("surprise", "fear", "disgust", "contempt")} == {
        "surprise": 105, "fear": 9, "disgust": 5, "contempt": 4,
    }  # fmt: skip
    assert list(store.meta.dropped_leaks.values()) == [34, 35, 37, 119, 10, 9, 30, 4]
    assert list(store.meta.counts["train"].values()) == [8699, 7249, 2985, 3017, 526, 107, 2068, 116]
    assert len(store.split("test")) == 3191

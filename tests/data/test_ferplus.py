"""FERPlus: the majority rule on made-up votes, and the official counts on the real faces where they are."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import auto, fer2013, ferplus, ferplus_pair, votes
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
    ("counts", "winner"),
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
def test_majority(counts, winner):
    names = [*votes.VOTES, "no majority"]
    assert names[votes.majority(np.array([counts]))[0]] == winner


def test_shares_of_the_votes_for_the_classes_that_are_kept():
    counts = np.array([(4, 0, 1, 4, 0, 0, 0, 0, 2, 0), (0, 0, 0, 0, 0, 0, 0, 0, 9, 1)])
    assert np.allclose(votes.shares(counts, ("happy", "sad", "neutral")), [[0, 0.5, 0.5], [0, 0, 0]])
    assert np.allclose(votes.shares(counts, ("sad", "unknown", "no majority")), [[2 / 3, 1 / 3, 0], [0, 1, 0]])


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
    with pytest.raises(
        UserError, match=r"no FER2013Train or fer2013new\.csv beside fer2013\.csv in .*; it holds: set"
    ):
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


USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
NAMES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def put_pair(root, rows, pictures="fer2013.csv"):
    """Rows of (split, image name, votes, grey value)."""
    root.mkdir(exist_ok=True)
    pixels = [f"{number % 7},{' '.join([str(grey)] * 48**2)},{USAGES[split]}" for number, (split, _, _, grey) in
              enumerate(rows)]  # fmt: skip
    (root / pictures).write_text("\n".join(["emotion,pixels,Usage", *pixels]) + "\n")
    lines = [",".join([USAGES[split], name, *map(str, counts)]) for split, name, counts, _ in rows]
    (root / ferplus_pair.VOTES_FILE).write_text("\n".join([NAMES, *lines]) + "\n")
    return str(root)


PAIR = [
    ("train", "fer0.png", HAPPY, 10),
    ("train", "", (0, 3, 0, 0, 0, 0, 0, 0, 0, 1), 11),
    ("train", "fer2.png", (5, 5, 0, 0, 0, 0, 0, 0, 0, 0), 12),
    ("train", "fer3.png", (0, 4, 0, 0, 0, 0, 2, 0, 0, 1), 13),
    ("val", "fer4.png", FEAR, 14),
    ("test", "fer5.png", HAPPY, 15),
]


@pytest.mark.parametrize("pictures", ["fer2013.csv", "icml_face_data.csv"])
@pytest.mark.parametrize("repository", [False, True])
def test_pictures_and_votes_in_two_tables(tmp_path, pictures, repository):
    root = put_pair(tmp_path / "set", PAIR, pictures)
    if repository:  # as Microsoft's: folders with votes and without pictures
        put(tmp_path / "set", train=[line("fer0.png", *FEAR)])
    manifest = read(str(tmp_path), ("happy", "fear"), "test")
    assert [(row["id"], row["label"], row["split"], row["votes"]) for row in manifest.rows.to_pylist()] == [
        (f"{pictures}#0", "happy", "train", [1, 0]),
        (f"{pictures}#3", "happy", "train", pytest.approx([2 / 3, 1 / 3])),
        (f"{pictures}#5", "happy", "test", [1, 0]),
    ]
    assert manifest.skipped == {"train": {"not a face": 1, "no majority": 1}, "test": {}}
    assert [data[-1] for data in manifest.pictures(manifest.rows["path"].to_pylist())] == [10, 13, 15]
    assert read(root, ("happy", "fear"), "valid").rows["id"].to_pylist()[-1] == f"{pictures}#4"
    assert auto.read(root, ("happy", "fear")).hash() == ferplus.read(root, ("happy", "fear")).hash()
    assert fer2013.read(root, ("happy", "fear")).rows.num_rows


def test_folders_with_pictures_come_before_tables(tmp_path):
    root = put_pair(tmp_path, PAIR)
    put(tmp_path, train=[line("a.png", *FEAR)], val=[line("b.png", *FEAR)])
    (tmp_path / "FER2013Train/a.png").touch()
    assert ferplus.read(root, ("happy", "fear")).rows["id"].to_pylist() == [
        "FER2013Train/a.png",
        "FER2013Valid/b.png",
    ]


def test_tables_that_do_not_belong_together(tmp_path):
    root = put_pair(tmp_path, PAIR)
    file = tmp_path / ferplus_pair.VOTES_FILE
    lines = file.read_text().splitlines()
    for wrong, what in (
        (lines[:-1], r"do not belong together: 6 and 5 rows"),
        ([*lines[:4], lines[6], lines[5], lines[4]], r"row 4 is Training in the one and PrivateTest in the other"),
        ([*lines, "Training,a"], r"fer2013new\.csv has a broken line \(Training, 2 cells instead of 12\)"),
        ([lines[0].replace("NF", "x"), *lines[1:]], r"fer2013new\.csv has no column 'NF'"),
    ):
        file.write_text("\n".join(wrong) + "\n")
        with pytest.raises(UserError, match=what):
            ferplus.read(root, ("happy", "fear"))


def test_wrong_rows_of_two_tables(tmp_path):
    root = put_pair(
        tmp_path, [*PAIR, ("train", "fer6.png", ("x", *HAPPY[1:]), 16), ("train", "fer7.png", HAPPY, 256)]
    )
    assert [(fault.kind, fault.path) for fault in ferplus.read(root, ("happy", "fear")).faults] == [
        ("unreadable", "fer2013.csv#7"),
        ("bad_votes", "fer2013.csv#6"),
    ]


def test_the_real_set_as_two_tables(ferplus_root, tmp_path):
    folders = read(ferplus_root, EMOTIONS, "valid")
    with (
        (tmp_path / "fer2013.csv").open("w") as pictures,
        (tmp_path / ferplus_pair.VOTES_FILE).open("w") as counts,
    ):
        pictures.write("emotion,pixels,Usage\n")
        counts.write(f"{NAMES}\n")
        for split in ("train", "val"):
            folder = folders.root / ferplus.FOLDERS[split]
            for number, text in enumerate((folder / "label.csv").read_text().splitlines()):
                name, _, _, _, _, *votes_of = text.split(",")
                if number % 100 == 0:  # all of them would take a while
                    grey = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE).ravel().tolist()
                    pixels = " ".join(map(str, grey))
                pictures.write(f"0,{pixels},{USAGES[split]}\n")
                counts.write(f"{USAGES[split]},{name},{','.join(votes_of)}\n")
    tables = read(str(tmp_path), EMOTIONS, "valid")
    assert tables.counts("train") == folders.counts("train")
    assert tables.counts("test") == folders.counts("test")
    assert (sum(tables.counts("train").values()), sum(tables.counts("test").values())) == (25_045, 3_191)
    for column in ("label", "split", "votes"):
        assert tables.rows[column].equals(folders.rows[column])
    assert tables.skipped == folders.skipped
    row = next(row for row, name in enumerate(tables.rows["path"].to_pylist()) if name.endswith("00"))
    png, pgm = (next(both.pictures([both.rows["path"][row].as_py()])) for both in (folders, tables))
    grey = cv2.imread(str(png), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(grey.ravel(), np.frombuffer(pgm[-48 * 48 :], np.uint8))

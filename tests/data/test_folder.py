"""A folder a class."""

import pytest
from layouts import EMOTIONS, picture, put_folder, text

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import HeldOut
from fer_lightning.data.readers import folder
from fer_lightning.data.split import with_test_split
from fer_lightning.data.store.prepare import prepare

WORDS = ("Neutral", "happiness", "Sad", "surprised", "FEAR", "disgusted", "angry", "contempt")


def read(root, test_split="test", classes=EMOTIONS):
    return with_test_split(folder.read(str(root), classes), test_split)


@pytest.mark.parametrize(
    ("train", "test", "asked"),
    [
        ("train", "test", "test"),
        ("Train", "val", "valid"),
        ("training", "validation", "val"),
        ("train", "valid", "val"),
    ],
)
def test_splits_and_names(tmp_path, train, test, asked):
    put_folder(tmp_path, train, test, WORDS)
    (tmp_path / train / "happiness" / "notes.txt").touch()
    (tmp_path / "__MACOSX").mkdir()
    ours = dict(zip(WORDS, EMOTIONS, strict=True))
    seeds = [(split, name) for split in (train, test) for name in WORDS]
    assert {(r["path"], r["label"], r["split"]) for r in read(tmp_path, asked).rows.to_pylist()} == {
        (f"{split}/{name}/{seed}.png", ours[name], "train" if split == train else "test")
        for seed, (split, name) in enumerate(seeds)
    }


def flat(root, a_class=10):
    for name in EMOTIONS:
        for number in range(a_class):
            picture(root / name / f"{number}.JPG", width=8, height=8)


def test_without_split_folders_a_share_must_be_asked_for(tmp_path):
    flat(tmp_path)
    for asked in ("test", "val", "0%", "100%", "0.2"):
        with pytest.raises(UserError, match=r"no test part in .* or say data\.test_split=20%"):
            read(tmp_path, asked)
    manifest = read(tmp_path, "20%")
    assert manifest.held_out == HeldOut(share=0.2)  # drawn once the faces are prepared, see test_persons.py
    assert manifest.counts("train") == dict.fromkeys(EMOTIONS, 10)


def test_training_folders_without_a_test_folder(tmp_path):
    flat(tmp_path / "train")
    with pytest.raises(UserError, match="no test part"):
        read(tmp_path)
    assert read(tmp_path, "50%").held_out == HeldOut(share=0.5)


ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".Jpeg", ".png", ".PNG", ".bmp", ".BMP", ".tif", ".TIF")


def test_every_ending_that_affectnet_has(tmp_path):
    for seed, place in enumerate(("train/happy", "train/sad", "test/happy", "test/sad")):
        for ending in ENDINGS:
            picture(tmp_path / place / f"a{ending}", seed)
    store = prepare(read(tmp_path, classes=("happy", "sad")), tmp_path / "base", size=16, margin=0.0, codec="raw")
    by_class = {"happy": len(ENDINGS), "sad": len(ENDINGS)}
    assert store.meta.counts == {"train": by_class, "test": by_class}


def test_unknown_and_missing_names(tmp_path):
    put_folder(tmp_path, names=("happy", "sad", "ahegao"))
    said = r"no class 'neutral'; it has: happy, sad; ahegao names no class \(say data\.labels={ahegao: <class"
    with pytest.raises(UserError, match=said):
        read(tmp_path)
    two = read(tmp_path, classes=("happy", "sad"))
    assert [(fault.kind, fault.path) for fault in two.faults] == [
        ("unknown_label", "train/ahegao/"),
        ("unknown_label", "test/ahegao/"),
    ]
    own = read(tmp_path, classes=("ahegao", "sad"))
    assert own.counts("train") == {"ahegao": 1, "sad": 1}
    assert own.skipped == {"train": {"happy": 1}, "test": {"happy": 1}}
    (tmp_path / "train/ahegao").rename(tmp_path / "train/.hidden")
    (tmp_path / "test/ahegao").rename(tmp_path / "test/_hidden")
    with pytest.raises(UserError, match=r"no class 'neutral'; it has: happy, sad; set data\.classes="):
        read(tmp_path)


def test_classes_of_the_users_own_only(tmp_path):
    put_folder(tmp_path, names=("pain", "no pain"))
    assert read(tmp_path, classes=("no pain", "pain")).counts("test") == {"no pain": 1, "pain": 1}
    with pytest.raises(UserError, match=r"no folders named after emotions.*it holds: test/, train/"):
        read(tmp_path)


def test_folders_that_are_links_out_of_the_root(tmp_path):
    put_folder(tmp_path / "set", names=("happy", "sad", "fear"))
    (tmp_path / "set/train/fear").rename(tmp_path / "secret")
    (tmp_path / "set/train/fear").symlink_to(tmp_path / "secret")
    manifest = read(tmp_path / "set", classes=("happy", "sad", "fear"))
    assert manifest.counts("train") == {"happy": 1, "sad": 1, "fear": 0}
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [("outside_root", "train/fear/")]
    (tmp_path / "set/train/fear").unlink()
    (tmp_path / "set/train/fear").symlink_to("../test/fear")  # stays inside
    assert read(tmp_path / "set", classes=("happy", "sad", "fear")).counts("train")["fear"] == 1
    (tmp_path / "set/test").rename(tmp_path / "test")
    (tmp_path / "set/test").symlink_to(tmp_path / "test")
    with pytest.raises(UserError, match="no test part"):
        read(tmp_path / "set", classes=("happy", "sad"))


def test_links_that_go_round_in_circles(tmp_path):
    put_folder(tmp_path / "set", names=("happy", "sad"))
    happy = tmp_path / "set/train/happy"
    picture(happy / "more/1.png", 9)
    for name, target in (("up", "../.."), ("self", "."), ("out", "../../.."), ("twice", "more")):
        (happy / name).symlink_to(target)
    (happy / "more/back").symlink_to("..")
    manifest = folder.read(str(tmp_path / "set"), ("happy", "sad"), follow_links=True)
    assert manifest.counts("train") == {"happy": 2, "sad": 1}
    assert not manifest.faults


def test_a_list_that_says_otherwise(tmp_path):
    put_folder(tmp_path, names=("happy", "sad"))
    text(
        tmp_path / "labels.csv",
        ",pth,label,relFCs",
        "0,happy/0.png,happiness,1",
        "1,sad/1.png,fear,1",
        "2,a/b.png,x,1",
    )
    manifest = read(tmp_path, classes=("happy", "sad"))
    assert manifest.rows["path"].to_pylist() == ["train/happy/0.png", "test/happy/2.png", "test/sad/3.png"]
    assert [(f.kind, f.path, f.detail) for f in manifest.faults] == [
        ("labels_disagree", "train/sad/1.png", "labels.csv says fear")
    ]
    text(tmp_path / "labels.csv", "something,else")
    assert len(read(tmp_path, classes=("happy", "sad")).rows) == 4

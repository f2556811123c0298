"""data.labels: a set's own names and numbers of labels."""

import pytest
from layouts import EMOTIONS, PUT, put_fer2013, put_folder, put_parquet, put_rafdb, put_yolo, text

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.readers import affectnet_2021, auto, fer2013, ferplus, folder, parquet, rafdb, yolo
from fer_lightning.data.readers.labels import label_names, plain

OWN = ("Neutral", "2", "03", "suprise", "bang", "ekel", "wut", "verachtung")
LABELS = {
    "2": "happy", "3.0": "sad", "suprise": "surprise", "BANG ": "fear", "ekel": "disgust", "wut": "anger",
    "verachtung": "contempt",
}  # fmt: skip


@pytest.mark.parametrize(
    ("label", "same"),
    [("3.0", "3"), (" 3", "3"), (3, "3"), (3.0, "3"), ("003", "3"), ("3.5", "3.5"), (" No  Pain", "no pain")],
)
def test_labels_are_compared_without_what_makes_no_difference(label, same):
    assert plain(label) == same


def test_folders_with_names_of_their_own(tmp_path):
    put_folder(tmp_path, names=OWN)
    for read in (folder.read, auto.read):
        manifest = read(str(tmp_path), None, labels=LABELS)
        assert manifest.counts("train") == dict.fromkeys(EMOTIONS, 1)
        assert not manifest.faults


def test_null_leaves_a_label_out(tmp_path):
    put_folder(tmp_path, names=("happy", "sad", "ahegao", "fear"))
    manifest = folder.read(str(tmp_path), ("happy", "sad"), labels={"ahegao": None, "fear": "happy"})
    assert manifest.counts("train") == {"happy": 2, "sad": 1}
    assert manifest.skipped == {"train": {"ahegao": 1}, "test": {"ahegao": 1}}
    manifest = folder.read(str(tmp_path), ("happy", "sad"), labels={"ahegao": "sad", "sad": None})
    assert manifest.counts("train") == {"happy": 1, "sad": 1}
    assert manifest.skipped["train"] == {"fear": 1, "sad, by data.labels": 1}


def test_codes_are_overridden(tmp_path):
    put_rafdb(tmp_path / "rafdb")
    swapped = rafdb.read(str(tmp_path / "rafdb"), None, labels={"4": "sad", "5": "happy"})
    by_path = {row["path"][-13]: row["label"] for row in swapped.rows.to_pylist()}
    assert (by_path["4"], by_path["5"], by_path["1"]) == ("sad", "happy", "surprise")
    put_fer2013(tmp_path / "fer2013")
    merged = fer2013.read(str(tmp_path / "fer2013"), None, labels={"0": "disgust"})
    assert merged.classes == tuple(name for name in EMOTIONS[:6])
    assert merged.counts("train")["disgust"] == 2
    PUT["affectnet"](tmp_path / "affectnet")
    with (tmp_path / "affectnet/training.csv").open("a") as file:
        file.write("1/x.jpg,5,5,20,20,,8,0,0\n1/y.jpg,5,5,20,20,, 1.0,0,0\n")
    odd = auto.read(str(tmp_path / "affectnet"), EMOTIONS, labels={"8": "contempt", "7": None})
    assert (odd.counts("train")["contempt"], odd.counts("train")["happy"]) == (1, 2)
    assert odd.skipped["train"] == {"contempt, by data.labels": 1}
    PUT["affectnet_2021"](tmp_path / "2021")
    assert affectnet_2021.read(str(tmp_path / "2021"), None, labels={"7": None}).classes == EMOTIONS[:7]
    PUT["ferplus"](tmp_path / "ferplus")
    rows = ferplus.read(str(tmp_path / "ferplus"), EMOTIONS[:7], labels={"contempt": "disgust"}).rows.to_pylist()
    assert [row["votes"][5] for row in rows if row["id"].endswith("Train/contempt.png")] == [1.0]


def test_names_inside_files(tmp_path):
    put_yolo(tmp_path / "yolo")
    text(tmp_path / "yolo/data.yaml", "names: [Anger, Contempt, Disgust, Fear, Happy, Neutral, Sad, Suprise]")
    with pytest.raises(
        UserError, match=r"Suprise names no class \(did you mean data\.labels={Suprise: surprise}\?\)"
    ):
        yolo.read(str(tmp_path / "yolo"), EMOTIONS)
    found = yolo.read(str(tmp_path / "yolo"), EMOTIONS, labels={"suprise": "surprise"})
    assert found.counts("train") == dict.fromkeys(EMOTIONS, 1)
    put_parquet(tmp_path / "parquet")
    renamed = parquet.read(str(tmp_path / "parquet"), None, labels={"anger": "contempt"})
    assert (renamed.counts("train")["contempt"], "anger" in renamed.classes) == (1, False)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            {"suprize": "surprise"},
            r"data\.labels: class-name folders has no label 'suprize' \(did you mean suprise\?\)",
        ),
        ({"suprise": "surprize"}, r"suprise is called 'surprize', which is no class \(did you mean surprise\?\)"),
        ({"11": None}, r"has no label '11'; it has: "),
    ],
)
def test_mistakes_are_one_line(tmp_path, labels, said):
    put_folder(tmp_path, names=("happy", "sad", "suprise"))
    with pytest.raises(UserError, match=said):
        folder.read(str(tmp_path), None, labels=labels)


def test_a_class_that_is_empty_because_of_a_name(tmp_path):
    put_folder(tmp_path, names=("happy", "surprise", "sad"))
    (tmp_path / "train/surprise").rename(tmp_path / "train/suprise")
    config = compose(["data=folder", "data.classes=[happy,surprise,sad]", f"data.root={tmp_path}"])
    said = (
        r"class 'surprise' has no training image.*train/suprise/.*did you mean data\.labels={suprise: surprise}\?"
    )
    with pytest.raises(UserError, match=said):
        dataset.manifest(config).check()
    config = compose(
        [
            "data=folder",
            "data.classes=[happy,surprise,sad]",
            f"data.root={tmp_path}",
            "data.labels={suprise: surprise}",
        ]
    )
    dataset.manifest(config).check()


def test_a_reader_of_ones_own_that_takes_no_labels(tmp_path, monkeypatch):
    (tmp_path / "mine_without_labels.py").write_text("def read(root, classes): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = compose(["data=folder"])["data"] | {"_target_": "mine_without_labels.read", "labels": {"a": "happy"}}
    with pytest.raises(UserError, match=r"data\.labels: mine_without_labels\.read does not take labels"):
        dataset.read(node)


def test_names_of_codes_and_numbers():
    names = label_names("X", ["8", "9 "], None, {"9": "happy"}, {8: "none"})
    assert (names.get(" 8.0"), names.get(9), names.get("x"), names.unknown) == ("none", "happy", None, ())

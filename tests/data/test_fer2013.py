"""FER2013 as one CSV file."""

import pytest
from layouts import SEVEN, put_fer2013, text

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import HeldOut
from fer_lightning.data.readers import auto, fer2013
from fer_lightning.data.split import with_test_split

GOOD = " ".join(["7"] * 48**2)


@pytest.mark.parametrize(
    ("name", "header"),
    [("fer2013.csv", "emotion,pixels,Usage"), ("icml_face_data.csv", "emotion, Usage, pixels")],
)
@pytest.mark.parametrize(("test_split", "first"), [("test", 14), ("valid", 7)])
def test_both_files_and_both_test_parts(tmp_path, name, header, test_split, first):
    put_fer2013(tmp_path, name, header)
    manifest = with_test_split(fer2013.read(str(tmp_path), SEVEN), test_split)
    labels = ["anger", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert [(row["id"], row["path"], row["label"], row["split"]) for row in manifest.rows.to_pylist()] == [
        (f"{name}#{first * (split == 'test') + number}",) * 2 + (label, split)
        for split in ("train", "test")
        for number, label in enumerate(labels)
    ]
    data = list(manifest.pictures(manifest.rows["path"].to_pylist()[7:]))
    assert [one[-1] for one in data] == [{7: 10, 14: 20}[first] + number for number in range(7)]
    assert {len(one) for one in data} == {len(b"P5 48 48 255\n") + 48**2}


def test_what_is_wrong_is_set_aside(tmp_path):
    lines = [
        f"3,{GOOD},Training",
        "3,1 2 3,Training",
        f"3,{GOOD[:-1]}256,Training",
        f"3,{GOOD[:-1]}x,Training",
        "3,,Training",
        f"3,{GOOD.replace(' ', '  ', 1).removesuffix(' 7')},Training",
        f"7,{GOOD},Training",
        f"3,{GOOD},Somewhere",
        "broken,line",
        f"5, {GOOD[:-1].replace(' ', '  ')}255 ,Training",
        f"3,{GOOD},PrivateTest",
    ]
    text(tmp_path / "fer2013.csv", "emotion,pixels,Usage", *lines)
    manifest = fer2013.read(str(tmp_path), SEVEN)
    assert [(f.kind, f.path) for f in manifest.faults if f.kind != "broken_line"] == [
        *(("unreadable", f"fer2013.csv#{number}") for number in (1, 2, 3, 4, 5)),
        ("unknown_label", "fer2013.csv#6"),
        ("unknown_split", "fer2013.csv#7"),
    ]
    assert [f.path for f in manifest.faults if f.kind == "broken_line"] == ["broken"]
    data = list(manifest.pictures(manifest.rows["path"].to_pylist()))
    assert [one[-1] for one in data] == [7, 255, 7]


def test_files_that_are_none_of_it(tmp_path):
    text(tmp_path / "fer2013.csv", "emotion,faces", f"3,{GOOD}")
    with pytest.raises(UserError, match=r"fer2013\.csv has no column 'pixels'; it has: emotion, faces"):
        fer2013.read(str(tmp_path), SEVEN)
    text(tmp_path / "fer2013.csv", "emotion,pixels,Usage")
    with pytest.raises(UserError, match=r"no picture of neutral|cannot be read"):
        fer2013.read(str(tmp_path), SEVEN)
    (tmp_path / "fer2013.csv").rename(tmp_path / "train.csv")
    text(tmp_path / "train.csv", "image,label", "a.jpg,3")
    with pytest.raises(UserError, match=r"no fer2013\.csv or train\.csv in"):
        fer2013.read(str(tmp_path), SEVEN)


@pytest.mark.parametrize("name", ["fer2013.csv", "train.csv"])
def test_without_usage_all_is_for_training(tmp_path, name):
    put_fer2013(tmp_path, name, "emotion,pixels")
    manifest = fer2013.read(str(tmp_path), SEVEN)
    assert manifest.counts("train") == dict.fromkeys(SEVEN, 3)
    assert with_test_split(manifest, "34%").held_out == HeldOut(share=0.34)
    assert auto.read(str(tmp_path), SEVEN).hash() == manifest.hash()


def test_kaggles_test_file(tmp_path):
    put_fer2013(tmp_path, "train.csv", "emotion,pixels")
    text(tmp_path / "test.csv", "pixels", GOOD)
    manifest = fer2013.read(str(tmp_path), SEVEN)
    assert [(f.kind, f.path, f.detail) for f in manifest.faults] == [
        ("missing_annotation", "test.csv", "it has no column emotion: its pictures have no labels")
    ]
    text(tmp_path / "test.csv", "pixels;emotion", f"{GOOD};3")
    manifest = with_test_split(fer2013.read(str(tmp_path), SEVEN), "test")
    assert not manifest.faults
    assert manifest.rows["id"].to_pylist()[-1] == "test.csv#0"
    assert next(manifest.pictures(["test.csv#0"]))[-1] == 7

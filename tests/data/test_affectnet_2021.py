"""AffectNet's release of 2021, on made-up trees."""

import numpy as np
import pytest
from layouts import annotate, picture

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import affectnet_2021
from fer_lightning.data.split import with_test_split


def one(root, split="train_set", number=1, **values):
    picture(root / split / f"images/{number}.jpg", 1)
    annotate(root, split, number, **values)


def read(root, classes=EMOTIONS, **more):
    return with_test_split(affectnet_2021.read(str(root), classes, **more), "val")


def test_rows(tmp_path):
    one(tmp_path, number=10, exp=np.array("1"), val=np.array("0.5"), aro=np.array("-0.25"), lnd=np.zeros(136))
    one(tmp_path, number=9, exp=np.array(7), val=np.array(-2.0), aro=np.array("nan"))
    one(tmp_path, "val_set", 3, exp=np.array("2.0"))
    calls = []
    manifest = read(tmp_path, progress=lambda *done: calls.append(done))
    assert [tuple(row.values()) for row in manifest.rows.to_pylist()] == [
        (path, path, label, split, *(None,) * 5, *feeling, None, None)
        for path, label, split, feeling in (
            ("train_set/images/10.jpg", "happy", "train", (0.5, -0.25)),
            ("train_set/images/9.jpg", "contempt", "train", (None, None)),
            ("val_set/images/3.jpg", "sad", "test", (None, None)),
        )
    ]
    assert calls == [(3, 3)]


class Code:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return type(self.trace).touch, (self.trace,)


def test_the_499_contemptuous_faces_of_the_validation_set(tmp_path):
    """All 3,999 of them, as few bytes as can be; the training set has one face a class."""
    codes = [code for code in range(8) for _ in range(499 if code == 7 else 500)]
    texts = [np.array(str(code)) for code in range(8)]
    for folder, of_split in (("train_set", range(8)), ("val_set", codes)):
        (tmp_path / folder / "images").mkdir(parents=True)
        for number, code in enumerate(of_split):
            (tmp_path / folder / f"images/{number}.jpg").touch()
            annotate(tmp_path, folder, number, exp=texts[code])
    manifest = affectnet_2021.read(str(tmp_path), None)
    assert manifest.counts("val") == {**dict.fromkeys(EMOTIONS, 500), "contempt": 499}
    assert manifest.counts("train") == dict.fromkeys(EMOTIONS, 1)
    assert not manifest.faults


def test_what_is_wrong_is_set_aside_by_name(tmp_path):
    one(tmp_path, number=0, exp=np.array(1))
    one(tmp_path, "val_set", 0, exp=np.array(1))
    one(tmp_path, number=1)
    one(tmp_path, number=2, exp=np.array("x"))
    one(tmp_path, number=3, exp=np.array(11))
    one(tmp_path, number=4, exp=np.array([1, 2]))
    one(tmp_path, number=5, exp=np.array(Code(tmp_path / "it-ran"), dtype=object))
    one(tmp_path, number=6, exp=np.array(1), val=np.array("?"))
    one(tmp_path, number=7, exp=np.array(8))
    annotations = tmp_path / "train_set/annotations"
    annotate(tmp_path, "train_set", 8, exp=np.array(1))  # no picture
    for number, data in ((20, b""), (21, b"\x93NUMPY\x01\x00\x08\x00{'descr("), (22, b"PK\x03\x04")):
        one(tmp_path, number=number)
        (annotations / f"{number}_exp.npy").write_bytes(data)
    picture(tmp_path / "train_set/images/30.jpg")
    manifest = affectnet_2021.read(str(tmp_path), EMOTIONS)
    assert [row["id"] for row in manifest.rows.to_pylist()] == ["train_set/images/0.jpg", "val_set/images/0.jpg"]
    assert sorted((fault.kind, fault.path.split("/")[-1]) for fault in manifest.faults) == [
        ("missing", "8.jpg"),
        ("missing_annotation", "1.jpg"),
        ("missing_annotation", "30.jpg"),
        ("unknown_label", "3.jpg"),
        *(("unreadable_annotation", f"{number}.jpg") for number in (2, 20, 21, 22, 4, 5, 6)),
    ]
    assert manifest.skipped == {"train": {"none": 1}}
    assert not (tmp_path / "it-ran").exists()


def test_annotations_that_are_links_out_of_the_root(tmp_path):
    root = tmp_path / "set"
    one(root, number=0, exp=np.array(1))
    one(root, "val_set", 0, exp=np.array(1))
    one(root, number=1)
    np.save(tmp_path / "secret.npy", np.array(1))
    (root / "train_set/annotations/1_exp.npy").symlink_to(tmp_path / "secret.npy")
    manifest = read(root)
    assert [(fault.kind, fault.path) for fault in manifest.faults] == [
        ("outside_root", "train_set/annotations/1_exp.npy"),
        ("missing_annotation", "train_set/images/1.jpg"),
    ]


def test_nothing_to_use(tmp_path):
    one(tmp_path, exp=np.array(11))
    one(tmp_path, "val_set", exp=np.array(11))
    with pytest.raises(UserError, match=r"no picture of neutral.*2 were set aside, the first: .*unknown_label"):
        read(tmp_path)

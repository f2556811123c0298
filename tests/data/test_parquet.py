"""Parquet files as Hugging Face has them."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import put_parquet, table

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import HeldOut
from fer_lightning.data.readers import parquet
from fer_lightning.data.split import with_test_split
from fer_lightning.data.store.prepare import prepare

TWO = ("happy", "sad")
NAMES = ["Sadness", "unknown", "Happy"]


def write(file, made, **how):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, file, **how)


def read(root, classes=TWO, test_split="test"):
    return with_test_split(parquet.read(str(root), classes), test_split)


@pytest.mark.parametrize("places", [("train.parquet", "test.parquet"), ("train/0.parquet", "test/0.parquet")])
def test_labels_by_name_and_pictures_by_row(tmp_path, places):
    labels = [2, 1, 0, 2, -1, None, 3, 0] * 40
    for seed, place in enumerate(places):
        write(tmp_path / place, table(NAMES, labels, seed), row_group_size=37)
    manifest = read(tmp_path)
    train = [row for row in manifest.rows.to_pylist() if row["split"] == "train"]
    used = [number for number, label in enumerate(labels) if label in (0, 2)]
    assert [row["path"] for row in train] == [f"{places[0]}#{number}" for number in used]
    assert [row["label"] for row in train] == [{0: "sad", 2: "happy"}[labels[number]] for number in used]
    assert manifest.skipped == {"train": {"unknown": 40}, "test": {"unknown": 40}}
    assert {fault.kind for fault in manifest.faults} == {"unknown_label"}
    assert len(manifest.faults) == 240
    whole = pq.read_table(tmp_path / places[0])["image"].to_pylist()
    wanted = [used[0], used[50], used[-1]]
    assert list(manifest.pictures([f"{places[0]}#{number}" for number in wanted])) == [
        whole[number]["bytes"] for number in wanted
    ]


def test_each_picture_is_prepared_with_its_own_label(tmp_path):
    for seed, split in enumerate(("train", "test")):
        write(tmp_path / f"data/{split}-0.parquet", table(NAMES, [2, 1, 0] * 100, seed), row_group_size=50)
    manifest = read(tmp_path)
    store = prepare(manifest, tmp_path / "base", size=30, margin=0.0, codec="raw", processes=1)
    split = store.split("train")
    whole = pq.read_table(tmp_path / "data/train-0.parquet")["image"].to_pylist()
    for row in (0, 1, 77, 199):
        data = whole[int(split.ids[row].rpartition("#")[2])]["bytes"]
        wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        assert np.array_equal(split.image(row), wanted)


def test_text_labels_plain_bytes_and_a_share(tmp_path):
    made = table([], [0] * 10)
    images = pa.array([one["bytes"] for one in made["image"].to_pylist()], pa.large_binary())
    write(tmp_path / "faces.parquet", pa.table({"img": images, "emotion": ["Happy", "sad"] * 5}))
    with pytest.raises(UserError, match=r"no test part in .*data\.test_split=20%"):
        read(tmp_path)
    manifest = read(tmp_path, test_split="40%")
    assert manifest.held_out == HeldOut(share=0.4)
    assert list(manifest.pictures(["faces.parquet#3"])) == [images[3].as_py()]


def test_a_picture_that_is_not_there(tmp_path):
    put_parquet(tmp_path)
    made = table(NAMES, [2, 0, 2, 0])
    images = [None, {"bytes": None, "path": None}, *made["image"].to_pylist()[2:]]
    images = pa.array(images, made.schema.field("image").type)
    write(tmp_path / "data/train-00000-of-00001.parquet", made.set_column(0, "image", images))
    store = prepare(read(tmp_path), tmp_path / "base", size=32, margin=0.0, codec="raw", processes=1)
    assert [(fault.kind, fault.path.rpartition("#")[2]) for fault in store.meta.faults] == [
        ("zero_byte", "0"),
        ("zero_byte", "1"),
    ]
    assert store.meta.counts["train"] == {"happy": 1, "sad": 1}


def test_files_that_cannot_be_used(tmp_path):
    file = tmp_path / "train.parquet"
    numbers = table(NAMES, [0, 2])
    for made, said in (
        (numbers.drop_columns("label"), "has no column of pictures' bytes with a column label or labels"),
        (numbers.drop_columns("image"), "it has: label"),
        (numbers.replace_schema_metadata(), "label holds numbers, and the file does not say what they stand for"),
        (numbers.replace_schema_metadata({"huggingface": "[broken"}), "label holds numbers"),
        (table(["sad", "", "wow"], [0, 2]), "it has: sad; wow names no class"),
    ):
        write(file, made)
        with pytest.raises(UserError, match=said):
            read(tmp_path, test_split="50%")
    file.write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises(UserError, match=r"train\.parquet cannot be read as parquet"):
        read(tmp_path, test_split="50%")


def test_a_file_that_is_a_link_out_of_the_root(tmp_path):
    put_parquet(tmp_path / "set")
    write(tmp_path / "secret.parquet", table(NAMES, [0]))
    (tmp_path / "set/data/train-1.parquet").symlink_to(tmp_path / "secret.parquet")
    assert not any("train-1" in path for path in read(tmp_path / "set").rows["path"].to_pylist())

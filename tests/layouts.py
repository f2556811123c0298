"""Made-up trees in every layout that a reader knows: small, with pictures that can be opened."""

import csv
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fer_lightning.core.emotions import AFFECTNET_CODES, EMOTIONS
from fer_lightning.data.readers import affectnet
from fer_lightning.data.readers.rafdb import CODES

SEVEN = EMOTIONS[:7]
NUMBERS = {name: code for code, name in AFFECTNET_CODES.items()}


def picture(path: Path, seed: int = 0, width: int = 60, height: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def put_affectnet(root: Path) -> None:
    for split, name in (("training", "a"), ("validation", "b")):
        lines = [f"1/{name}{e}.jpg,5,5,20,20,,{NUMBERS[e]},0.5,-0.25" for e in EMOTIONS]
        text(root / f"{split}.csv", ",".join(affectnet.COLUMNS), *lines)
        for seed, e in enumerate(EMOTIONS):
            picture(root / affectnet.PICTURES / f"1/{name}{e}.jpg", seed + 100 * ord(name))


def annotate(root: Path, split: str, number: object, **values: object) -> None:
    (root / split / "annotations").mkdir(parents=True, exist_ok=True)
    for kind, value in values.items():
        np.save(root / split / "annotations" / f"{number}_{kind}.npy", value)


def put_affectnet_2021(root: Path) -> None:
    for split, first in (("train_set", 0), ("val_set", 100)):
        for code in range(8):
            picture(root / split / f"images/{first + code}.jpg", first + code)
            annotate(root, split, first + code, exp=np.array(str(code)), val=np.array("0.5"), aro=np.array(-0.25))


def put_fer2013(root: Path, name: str = "fer2013.csv", header: str = "emotion,pixels,Usage") -> None:
    lines = [header]
    for usage, first in (("Training", 0), ("PublicTest", 10), ("PrivateTest", 20)):
        for code in range(7):
            runs = {"emotion": code, "pixels": " ".join([str(first + code)] * 48**2), "Usage": usage}
            lines.append(",".join(str(runs[column.strip()]) for column in header.split(",")))
    text(root / name, *lines)


def put_ferplus(root: Path) -> None:
    votes = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt")
    for split in ("FER2013Train", "FER2013Test"):
        lines = []
        for seed, label in enumerate(votes):
            counts = ",".join("9" if name == label else "0" for name in (*votes, "unknown", "NF"))
            lines.append(f'{label}.png,"(0, 0, 48, 48)",{counts}')
            picture(root / split / f"{label}.png", seed + 100 * len(split), 48, 48)
        text(root / split / "label.csv", *lines)


def put_rafdb(root: Path) -> None:
    stems = [f"{split}_0{number}" for split in ("train", "test") for number in CODES]
    text(root / "EmoLabel/list_patition_label.txt", *(f"{stem}.jpg {stem[-1]}" for stem in stems))
    for seed, stem in enumerate(stems):
        picture(root / f"Image/aligned/{stem}_aligned.jpg", seed)


def put_rafdb_folders(root: Path, above: str = "") -> None:
    for split in ("train", "test"):
        names = {number: f"{split}_0{number}_aligned.jpg" for number in CODES}
        text(root / f"{above}{split}_labels.csv", "image,label", *(f"{name},{n}" for n, name in names.items()))
        for number, name in names.items():
            picture(root / f"DATASET/{split}/{number}/{name}", number + 100 * len(split))


MIRROR = ("Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def put_yolo(root: Path) -> None:
    text(root / "data.yaml", "train: ../train/images", "nc: 8", f"names: {json.dumps(MIRROR)}")
    for seed, (split, number) in enumerate((s, n) for s in ("train", "valid", "test") for n in range(8)):
        picture(root / split / f"images/{number}.jpg", seed)
        text(root / split / f"labels/{number}.txt", f"{number} 0.5 0.25 0.5 0.5")


def put_folder(root: Path, train: str = "train", test: str = "test", names=EMOTIONS) -> None:
    for seed, (split, name) in enumerate((split, name) for split in (train, test) for name in names):
        picture(root / split / name / f"{seed}.png", seed)


def table(names: list[str], labels: list[int], seed: int = 0) -> pa.Table:
    """A table as Hugging Face's ``datasets`` writes it."""
    rng = np.random.default_rng(seed)
    pixels = [rng.integers(0, 256, (30, 30, 3), np.uint8) for _ in labels]
    images = [{"bytes": cv2.imencode(".png", one)[1].tobytes(), "path": None} for one in pixels]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    made = pa.table({"image": images, "label": labels})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def put_parquet(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    names = ["anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    for seed, split in enumerate(("train", "test")):
        pq.write_table(table(names, list(range(7)), seed), root / f"data/{split}-00000-of-00001.parquet")


def put_csv(root: Path) -> None:
    lines = []
    for seed, (split, name) in enumerate((split, name) for split in ("train", "test") for name in EMOTIONS):
        picture(root / f"images/{seed}.jpg", seed)
        lines.append(f"images/{seed}.jpg,{name},{split},5,5,20,20,{split} person {seed % 3}")
    text(root / "faces.csv", "file,emotion,split,x,y,w,h,person", *lines)


PUT = {
    "affectnet": put_affectnet,
    "affectnet_2021": put_affectnet_2021,
    "fer2013": put_fer2013,
    "ferplus": put_ferplus,
    "rafdb": put_rafdb,
    "yolo": put_yolo,
    "parquet": put_parquet,
    "folder": put_folder,
    "csv": put_csv,
}
"""Writes a whole set below a root, by the option of conf/data that reads it."""


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16-le", "utf-16-be")
"""Encodings that a text file may have; all but UTF-8 begin with a byte order mark."""


def rewrite(file: Path, separator: str = ",", encoding: str = "utf-8", line_end: str = "\n") -> None:
    """Write a text table, or a list of words, with another separator, encoding and line end."""
    old = file.read_text(encoding="utf-8")
    words = [re.split(",| ", line) for line in old.splitlines()] if file.suffix == ".txt" else None
    made = io.StringIO()
    if separator == " ":
        made.write("".join(" ".join(row) + line_end for row in words or ()))
    else:
        writer = csv.writer(made, delimiter=separator, lineterminator=line_end)
        writer.writerows(words or csv.reader(io.StringIO(old)))
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    file.write_bytes((mark + made.getvalue()).encode(encoding))

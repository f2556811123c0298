"""The doctor says when a person lies in two parts."""

import json

import cv2
import pytest
from bad_files import face

from fer_lightning.cli import main


@pytest.mark.parametrize(
    ("group", "found"), [([], {}), ([r"data.group='(S\d+)_'"], {"S001": "2 in train, 1 in val"})]
)
def test_a_person_in_two_parts(tmp_path, capsys, group, found):
    persons = {"train": ("S001_1", "S001_2", "S002_1"), "val": ("S001_3", "S003_1")}
    for seed, (split, name, label) in enumerate(
        (split, name, label) for split, names in persons.items() for name in names for label in ("happy", "sad")
    ):
        if label == "sad" and name.startswith("S001"):
            continue
        file = tmp_path / "set" / split / label / f"{name}_{label}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), face(seed))
    report = tmp_path / "report.json"
    code = main.main(["doctor", str(tmp_path / "set"), *group, "--json", str(report)])
    faults = json.loads(report.read_text())["faults"]
    assert {fault["path"]: fault["detail"] for fault in faults if fault["kind"] == "person_across_splits"} == found
    assert code == (1 if found else 0)
    verdict = (
        "This would spoil a result: 1 person_across_splits." if found else "Nothing that would spoil a result."
    )
    assert verdict in capsys.readouterr().out

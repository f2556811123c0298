"""What a run leaves behind is read as it was written, whatever version of the program wrote it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.evaluation.results import RESULT, TRIAL, VERSION, Result, StageResult, TrialResult

CONTENT: dict[str, Any] = {
    "metrics": {"accuracy": 0.5, "krippendorff_alpha": math.nan},
    "per_class_recall": {"happy": 0.5, "fear": None},
    "confusion": [[1, 1], [0, 0]],
    "classes": ["happy", "fear"],
    "protocol": {"data": "made up"},
    "provenance": {"versions": {"torch": "2"}, "machine": {"threads": 1}, "paths": {"data": None}},
    "config": {"seed": 3, "somebodys": {"own": [1, None]}},
    "seed": 3,
}
"""As an early version wrote it."""


def put(folder: Path, content: Any, name: str = RESULT) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_result_is_read_as_it_was_written_and_a_person_can_read_it(tmp_path: Path) -> None:
    column = {"tau": 1.5, **{key: CONTENT[key] for key in ("metrics", "per_class_recall", "confusion")}}
    stage = StageResult("fine_tuning", 2, 1, 0.4, 9.0, [{"train/loss": 1.0}, {"train/loss": math.nan}])
    more = {"posthoc": {"logit_adjustment": column}, "stages": [stage], "somebodys": "own"}
    result = Result.model_validate({**CONTENT, **more})
    results.write(tmp_path, result, ["a", "b"], np.array([0, 0]), np.eye(2), {"tau_norm": np.array([1, 1])})
    text = (tmp_path / RESULT).read_text()
    assert text.startswith(f'{{\n  "version": {VERSION},\n  "metrics": {{\n')
    assert '"krippendorff_alpha": NaN' in text
    written = json.loads(text)
    assert written.keys() == {"version", *CONTENT, *more}  # and nothing that was not said
    assert written["posthoc"]["logit_adjustment"].keys() == column.keys()
    read = results.read(tmp_path)
    assert read is not None
    assert read.stages[0].history[0] == {"train/loss": 1.0}
    assert read.minival_macro_recall == 0.4
    assert read.protocol == {"data": "made up", "numerics": 0}


def test_a_trial_is_read_as_it_was_written(tmp_path: Path) -> None:
    trial = TrialResult(minival_macro_recall=0.5, stages=[], config={"seed": 1}, seconds=2.0)
    results.write_trial(tmp_path, trial)
    assert results.read_trial(tmp_path) == trial


def test_a_file_without_a_version_is_read_as_the_first(tmp_path: Path) -> None:
    put(tmp_path, CONTENT)
    read = results.read(tmp_path)
    assert read is not None
    assert (read.version, read.posthoc, read.stages, read.data.train) == (0, None, [], {})
    assert math.isnan(read.metrics["krippendorff_alpha"])
    assert math.isnan(read.minival_macro_recall)
    assert math.isnan(results.optimism(read))


def test_what_is_not_there_is_not_complete(tmp_path: Path) -> None:
    assert results.read(tmp_path) is None
    assert results.read_trial(tmp_path) is None


@pytest.mark.parametrize("name", [RESULT, TRIAL])
def test_a_file_of_a_later_version_is_told_as_such(name: str, tmp_path: Path) -> None:
    path = put(tmp_path, {"version": VERSION + 1, "renamed": 1}, name)
    with pytest.raises(UserError) as told:
        (results.read if name == RESULT else results.read_trial)(tmp_path)
    assert str(told.value) == (
        f"{path}: written in version {VERSION + 1}, and this fer_lightning reads up to version {VERSION}: "
        "install a newer one"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "valid dictionary"),
        (
            {key: value for key, value in CONTENT.items() if key not in ("seed", "config")},
            "it has no config, seed",
        ),
        ({**CONTENT, "confusion": "lost"}, "confusion: Input should be a valid list"),
        ({**CONTENT, "version": "new"}, "version: Input should be a valid integer"),
        ({**CONTENT, "stages": [{"name": "fine_tuning"}]}, "it has no stages.0.best_epoch, stages.0.epochs"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(content: Any, reason: str, tmp_path: Path) -> None:
    path = put(tmp_path, content)
    with pytest.raises(UserError) as told:
        results.read(tmp_path)
    assert str(told.value).startswith(f"{path}: not a result.json of fer: ")
    assert str(told.value).endswith("; delete it and start the run again")
    assert reason in str(told.value)
    assert "\n" not in str(told.value)

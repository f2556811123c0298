"""Every number of conf/ has its range: what is out of it is one line before anything is read or trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from fer_lightning.config.compose import Composer
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.errors import UserError
from fer_lightning.run.check_config import check

OPTIONS = [f"{group}={option}" for group, options in groups().items() for option in options]
VALUES = (-1, 0, 1e99, float("nan"), float("inf"), "word", None)
FREE = {"arguments"}
"""Keys below which timm decides."""

TAKEN = {
    -1: {"trainer.max_steps", "stage.fine_tuning.freeze", *(f"backbone.mean.{channel}" for channel in range(3))},
    "word": {"stage.fine_tuning.freeze"},
}
"""Keys for which a value that is out of range elsewhere means something."""


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def numbers(node: dict[str, Any] | list[Any], path: str) -> Iterator[tuple[str, Any]]:
    """Every number below a node, and every null, which may stand for one, by its dotted key."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list) and key not in FREE:
            yield from numbers(value, f"{path}.{key}")
        elif isinstance(value, int | float | None) and not isinstance(value, bool):
            yield f"{path}.{key}", value


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = deepcopy(config)
    *above, last = path.split(".")
    node: Any = copied
    for key in above:
        node = node[key]
    node[int(last) if isinstance(node, list) else last] = value
    return copied


def test_a_users_own_parameter_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "any_name.py").write_text(
        "def draws(labels, generator, progress, *, _hidden: int, copy: int, schema: int, model_config: int): ...\n"
    )
    (tmp_path / "conf/sampler").mkdir(parents=True)
    option = tmp_path / "conf/sampler/any_name.yaml"
    option.write_text("_target_: any_name.draws\n_hidden: 1\ncopy: 2\nschema: 3\nmodel_config: 4\n")
    monkeypatch.setattr("sys.path", [*sys.path])
    config = Composer(str(tmp_path / "conf"))(["sampler=any_name"])
    assert refusal(config) is None
    for name in ("_hidden", "copy", "schema", "model_config"):
        said = refusal(changed(config, f"sampler.{name}", "word"))
        assert said is not None
        assert said.startswith(f"sampler.{name}='word'")
    assert "did you mean schema?" in str(refusal(changed(config, "sampler.shcema", 1)))


def own_numbers() -> dict[str, dict[str, Any]]:
    """The numbers that every option's own file has; one of data has those that all data sets share, too."""
    found: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        files = ["data/_defaults", "data/synthetic"] if option == "data=synthetic" else [option.replace("=", "/")]
        for file in files:
            node = yaml.safe_load((shipped("conf") / f"{file}.yaml").read_text())
            found.setdefault(option, {}).update(numbers(node, option.partition("=")[0]))
    return {option: paths for option, paths in found.items() if paths}


def refusal(config: dict[str, Any]) -> str | None:
    try:
        check(config)
    except UserError as error:
        return str(error)
    return None


NUMBERS = own_numbers()


@pytest.mark.parametrize("option", NUMBERS)
def test_a_number_out_of_range_is_one_line(option: str, composer: Composer) -> None:
    config = composer([option])
    assert refusal(config) is None
    for path, number in NUMBERS[option].items():
        for value in VALUES:
            if path in TAKEN.get(value, ()) or (value == "word" and number is None):
                continue
            said = refusal(changed(config, path, value))
            if value in (0, None):
                assert said is None or (path in said and "\n" not in said)
            else:
                assert said is not None, f"{path}={value} is taken"
                assert path in said
                assert "\n" not in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("optimizer.lr", -1),
        ("optimizer.lr", 0),
        ("optimizer.weight_decay", -1),
        ("optimizer.part_lr.neck", 0),
        ("optimizer.ema_decay", 1),
        ("trainer.gradient_clip", -1),
        ("trainer.gradient_clip", 0),
        ("trainer.threads", 0),
        ("trainer.accumulate", 0),
        ("trainer.timeout", 0),
        ("data.workers", -2),
        ("data.batch_size", 0),
        ("data.minival", 1),
        ("data.minival", 0),
        ("data.margin", 5),
        ("data.size", 7),
        ("data.crop", 0),
        ("data.rows", 0),
        ("data.label_noise", 1),
        ("data.classes", []),
        ("data.classes", ["happy"]),
        ("data.classes", ["happy", "happy"]),
        ("class_weights.from_epoch", -1),
        ("schedule.warmup", 1.5),
        ("stage.epochs", 0),
        ("stage.feature_extraction.views", -1),
        ("stage.fine_tuning.lr_scale", 0),
        ("backbone.people", 1),
        ("backbone.batch_size", 0),
        ("backbone.std", [0.5, 0.0, 0.5]),
        ("transform.rotate", 181),
        ("transform.scale", 1),
        ("neck.features", 0),
        ("loss.label_smoothing", 1),
    ],
)
def test_what_makes_no_sense_is_refused(path: str, value: Any, composer: Composer) -> None:
    with pytest.raises(UserError, match=path.replace(".", r"\.")) as refused:
        check(changed(composer([]), path, value))
    assert "\n" not in str(refused.value)

"""A run stays the run it is while code moves and keys are added; it is another one where its numbers are."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from configs import ROWS, composer
from runs import SMALL

from fer_lightning.config import identity
from fer_lightning.run.train_and_test import train

PROTOCOL = {"data": "synthetic", "numerics": identity.NUMERICS}


def name(config: dict[str, Any], protocol: dict[str, Any] = PROTOCOL) -> str:
    return identity.run_name(config, protocol)


@pytest.fixture
def config() -> dict[str, Any]:
    return composer()(["loss=cluster"])


def with_key(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = deepcopy(config)
    *above, last = path.split(".")
    node = changed
    for key in above:
        node = node[key]
    node[last] = value
    return changed


@pytest.mark.parametrize("path", ["loss", "optimizer", "stage.fine_tuning", "data"])
def test_it_does_not_depend_on_the_module_that_our_code_lies_in(config: dict[str, Any], path: str) -> None:
    node = config
    for key in path.split("."):
        node = node[key]
    class_name = node["_target_"].rpartition(".")[2]
    moved = with_key(config, f"{path}._target_", f"fer_lightning.elsewhere.{class_name}")
    assert name(moved) == name(config)
    other = with_key(config, f"{path}._target_", f"fer_lightning.elsewhere.Other{class_name}")
    assert name(other) != name(config)


def test_the_module_of_a_users_own_code_counts(config: dict[str, Any]) -> None:
    first, second = (with_key(config, "loss._target_", f"{module}.ClusterHead") for module in ("mine", "yours"))
    assert len({name(config), name(first), name(second)}) == 3


@pytest.mark.parametrize("path", ["optimizer.nesterov", "stage.fine_tuning.warm_restarts", "mixup"])
def test_a_key_added_later_leaves_finished_runs_what_they_are(
    config: dict[str, Any], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(identity.ADDED_KEYS, path, False)
    assert name(with_key(config, path, False)) == name(config)
    assert name(with_key(config, path, True)) != name(config)


def test_a_key_that_is_not_known_to_change_nothing_makes_another_run(config: dict[str, Any]) -> None:
    assert name(with_key(config, "optimizer.nesterov", False)) != name(config)


def test_other_numerics_make_another_run(config: dict[str, Any]) -> None:
    assert name(config, {**PROTOCOL, "numerics": identity.NUMERICS + 1}) != name(config)


def test_a_finished_run_is_not_trained_again_because_a_key_was_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = composer()([*SMALL, "stage=feature_extraction", "stage.epochs=1"])
    folder = train(config, None, tmp_path)
    monkeypatch.setitem(identity.ADDED_KEYS, "mixup", 0.0)
    caplog.set_level("INFO", "fer_lightning")
    assert train({**config, "mixup": 0.0}, None, tmp_path) == folder
    assert f"complete: {folder} has a result, nothing to do" in caplog.text
    assert train({**config, "mixup": 0.5}, None, tmp_path) != folder


def keys(node: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in node.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found


def test_every_key_of_conf_is_an_old_one_or_says_what_it_changes(request: pytest.FixtureRequest) -> None:
    """Fails where a key is new: name it in ADDED_KEYS with the value that changes nothing, or raise NUMERICS."""
    old = set((request.path.parent / "keys.txt").read_text().split())
    found: set[str] = set()
    for words in ROWS:
        found |= keys(identity.identity(composer()(words), {})["config"])
    added = tuple(f"{key}." for key in identity.ADDED_KEYS)
    assert {key for key in found - old if not f"{key}.".startswith(added)} == set()
    assert old - found == set(), "keys that are gone: take them out of keys.txt"

"""A composer gives what Hydra composes, and asks Hydra once for words that differ in their seed alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from fer_lightning.config.compose import Composer, compose
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.errors import UserError

OWN = {
    "loss/mine": """
        _target_: fer_lightning.losses.cluster.ClusterHead
        weight: ${optimizer.lr}
        named: "seed ${seed}"
        listed: ["${seed}", 2]
        nested: {deep: null, rate: "${loss.weight}"}""",
    "optimizer/both": "# @package _global_\nseed: 9\n"
    "optimizer: {_target_: fer_lightning.training.optimizers.sgd, lr: 0.5}",
    "data/more": "defaults: [synthetic, /extra: few, _self_]\nroot: ${oc.env:PATH}",
    "extra/few": "number: 1",
}
"""Options of a user: interpolations, one that sets what is another group's, a group of their own."""

FINE = [
    [],
    ["seed=3"],
    ["seed=1", "loss=cluster", "seed=2"],
    ["++seed=4", "seed=5"],
    ["seed=5", "++seed=4"],
    ["seed=1e2"],
    ["optimizer.lr=${seed}", "seed=3"],
    ["loss=mine", "seed=8", "optimizer.lr=3"],
    ["loss=mine", "loss.named=b", "loss.listed=[]", "seed=3"],
    ["optimizer=both"],
    ["optimizer=both", "seed=3"],
    ["data=more", "data.extra.number=3", "seed=0"],
    ["trainer=ddp", "hydra.run.dir=runs/there", "hydra/launcher=basic", "seed=1"],
]


def by_hydra(words: list[str], folder: str) -> dict[str, Any]:
    place = f"hydra.searchpath=['file://{folder}']"
    with initialize_config_dir(str(shipped("conf").resolve()), version_base="1.3"):
        config = hydra_compose("config", [*words, place], return_hydra_config=True)
    chosen = config.hydra.runtime.choices
    choices = {group: chosen[group] for group in groups() if group in chosen}
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {**plain, "choices": choices}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("own") / "conf"
    for name, text in OWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()))
    return str(folder)


@pytest.fixture(scope="module")
def composer(own: str) -> Composer:
    """One for all tests, so that whatever one configuration left behind would show in another."""
    return Composer(own)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words that Hydra was asked to compose."""
    lists: list[list[str]] = []

    def noted(name: str, words: list[str], **options: Any) -> Any:
        lists.append(words)
        return hydra_compose(name, words, **options)

    monkeypatch.setattr("fer_lightning.config.compose.hydra_compose", noted)
    return lists


@pytest.mark.parametrize("words", FINE, ids=" ".join)
def test_it_is_what_hydra_composes(words: list[str], own: str, composer: Composer) -> None:
    """Representations tell 1 from 1.0 and True, equal NaN, and hold the order of keys."""
    expected = repr(by_hydra(words, own))
    assert repr(composer(words)) == expected
    assert repr(composer(words)) == expected


@pytest.mark.parametrize(
    "words", [["loss=nope"], ["loss.wieght=1"], ["optimizer.lr=${no.such}"], ["a=b=["], ["=1"]]
)
def test_a_mistake_stays_one_with_any_seed(words: list[str], composer: Composer) -> None:
    messages = set()
    for seed in ("seed=1", "seed=1", "seed=2"):
        with pytest.raises(UserError) as caught:
            composer([*words, seed])
        messages.add(str(caught.value).replace("seed=2", "seed=1"))
    assert len(messages) == 1


def test_hydra_composes_once_what_differs_in_the_seed_alone(asked: list[list[str]]) -> None:
    composer = Composer()
    losses = ("softmax", "cluster")
    configs = {(loss, seed): composer([f"loss={loss}", f"seed={seed}"]) for loss in losses for seed in range(50)}
    assert asked == [[f"loss={loss}"] for loss in losses]
    for (loss, seed), config in configs.items():
        assert (config["choices"]["loss"], config["seed"]) == (loss, seed)


def test_a_configuration_that_is_changed_changes_no_other() -> None:
    composer, words = Composer(), ["backbone.mean=[0.1,0.2,0.3]"]
    before = composer(words)
    changed = composer(words)
    changed["backbone"]["mean"].append(1)
    changed["stage"]["fine_tuning"]["epochs"] = 99
    changed["choices"].clear()
    assert composer(words) == before


def test_another_composer_sees_files_that_have_changed(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "neck" / "mine.yaml"
    file.parent.mkdir(parents=True)
    folder, words = str(tmp_path / "conf"), ["neck=mine"]
    said = "_target_: fer_lightning.models.neck.LinearPReLU\nfeatures: {}\n"
    file.write_text(said.format(3))
    assert compose(words, folder)["neck"]["features"] == 3
    file.write_text(said.format(4))
    assert compose(words, folder)["neck"]["features"] == 4


def test_a_users_code_that_changes_is_another_source_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[list[str]]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "own.yaml").write_text("_target_: a_head_of_mine.Head\n")
    code = tmp_path / "a_head_of_mine.py"
    composer = Composer(str(tmp_path / "conf"))
    sources = []
    for text in ("class Head: pass\n", "class Head: ...\n"):
        code.write_text(text)
        sources.append(composer(["loss=own"])["loss"]["_source_"])
    assert len(set(sources)) == 2
    assert len(asked) == 1


def test_a_folder_of_options_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Composer(str(tmp_path / "nowhere"))

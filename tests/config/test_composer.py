"""A composer that remembers gives what Hydra gives for the same words: values, types, order and mistakes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
from configs import ROWS
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from fer_lightning.config.compose import Composer, compose
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.errors import UserError

OWN = {
    "loss/mine": r"""
        _target_: fer_lightning.losses.cluster.ClusterHead
        weight: ${optimizer.lr}
        near: ${.weight}
        named: "seed ${seed}"
        listed: ["${seed}", 2]
        given: ???
        nested: {deep: null, rate: "${loss.weight}"}
        alias: ${stage}
        escaped: a\${b}
        pictures: ${backbone.mean}""",
    "loss/unresolved": "_target_: fer_lightning.losses.cluster.ClusterHead\nweight: ${no.such}",
    "optimizer/both": "# @package _global_\nseed: 9\n"
    "optimizer: {_target_: fer_lightning.training.optimizers.sgd, lr: 0.5}",
    "data/more": "defaults: [synthetic, /extra: few, _self_]\nroot: ${oc.env:PATH}",
    "extra/few": "number: 1",
    "trainer/alone": "# Of its own group only.\ndefaults: [ddp, _self_]\nthreads: 7",
    "trainer/other": "defaults: [cpu, /extra@trainer.extra: few, _self_]",
    "neck/reach": "# @package _global_\nloss: {reached: 1}\nneck: {features: 3}",
    "sampler.q/odd": "number: 1",
}
"""Options of a user: interpolations of every kind, one that sets what is another group's, groups of their own."""

KEYS = (
    "loss.label_smoothing",
    "data.root",
    "data.classes",
    "data.rows",
    "optimizer.fused",
    "backbone.mean",
    "seed",
)
LITERALS = (
    ("1", "0", "-3", "1_000", "0.5", "1.", "1e-3"),
    ("inf", "nan", "true", "No", "null", "abc", "a-b/c:d"),
    ('"1"', "''", "'a b'", "int(2.5)", "str(1)", "float(1)", "bool(0)"),
    ("[]", "[1,a,null]", "[[1],[b]]", "['1',2.0]", "[true]", "", "a b"),
)
FINE = [
    [],
    *ROWS,
    *([f"{key}={value}" for key, value in zip(KEYS, values, strict=True)] for values in LITERALS),
    ["data.classes=null", "data.root=[a]"],
    ["stage.epochs=7"],
    ["stage.epochs=7", "stage.fine_tuning.epochs=2"],
    ["stage.fine_tuning.epochs=2", "stage.epochs=null"],
    ["stage.epochs=3", "stage=fine_tuning", "stage.epochs=4"],
    ["loss.weight=0.3", "loss=cluster", "loss=center"],
    ["seed=1", "loss=cluster", "seed=2", "class_weights=power", "loss.delta=2", "class_weights.gamma=0.1"],
    ["loss.label_smoothing=0.1", "loss=softmax", "+loss.more=1"],
    ["++loss.label_smoothing=0.1", "loss.label_smoothing=0.2"],
    ["loss.label_smoothing=0.2", "++loss.label_smoothing=0.1"],
    ["+loss.more=1", "loss.more=2"],
    ["~loss.label_smoothing", "seed=1"],
    ["~loss.label_smoothing=0.0", "seed=1"],
    ["seed=1", "~loss"],
    ["backbone.arguments={stem_width: 3}", "backbone.arguments.stem_width=4"],
    ["backbone.arguments.stem_width=4", "backbone.arguments={stem_width: 3}"],
    ["backbone.mean=[0.1,0.2,0.3]", "backbone.mean.1=0.5"],
    ["backbone.mean.1=0.5", "backbone.mean=[0.1,0.2,0.3]"],
    ["optimizer.part_lr.neck=2", "optimizer.part_lr=1"],
    ["optimizer.lr=${seed}", "seed=3"],
    ["seed=3", "optimizer.lr=${seed}"],
    ["data.root='\\${x}'", "data.root=???"],
    ["trainer=ddp", "trainer.devices=4", "hydra.run.dir=runs/there", "trainer.threads=2"],
    ["hydra/launcher=basic", "seed=1"],
]
FINE_WITH_OWN = [
    ["loss=mine"],
    ["loss=mine", "optimizer.lr=3", "seed=8"],
    ["seed=8", "loss=mine", "loss.weight=2", "loss.near=1"],
    ["loss=mine", "loss.given=1", "loss.listed=[3]", "loss.nested.deep=[1]", "loss.escaped=x", "loss.pictures=1"],
    ["loss=mine", "loss.alias=1", "loss.named=b", "loss.near=1", "loss.listed=[]", "loss.escaped=x", "seed=3"],
    ["loss=mine", "stage.epochs=4", "stage.fine_tuning.epochs=1", "loss.nested.deep=1"],
    ["loss=mine", "loss.nested={deep: 1}", "seed=3"],
    ["optimizer=both"],
    ["optimizer=both", "seed=3", "optimizer.lr=1"],
    ["seed=3", "optimizer=both"],
    ["data=more", "data.extra.number=3", "data.rows=5"],
    ["+extra=few", "extra.number=3", "data.rows=5"],
    ["+extra@data.other=few", "data.other.number=3", "data.rows=5"],
]
WRONG = [
    ["loss=nope"],
    ["losss=center", "seed=1"],
    ["loss=3"],
    ["loss=null", "seed=1"],
    ["~loss=3"],
    ["loss.wieght=1", "seed=1"],
    ["loss.label_smoothing.more=1"],
    ["seed=1", "loss.label_smoothing=0.1,0.2"],
    ["loss=softmax,center", "seed=2"],
    ["seed=1", "loss={label_smoothin: 1}"],
    ["~seed", "seed=1"],
    ["seed=1", "~seed=2"],
    ["+seed=1", "seed=2"],
    ["seed=2", "+seed=1"],
    ["optimizer.lr=${no.such}", "seed=1"],
    ["optimizer.lr=${optimizer.lr}"],
    ["data.root=???", "optimizer.lr=${data.root}"],
    ["choices.loss=center"],
    ["loss@other=center"],
    ["+loss=center"],
    ["++loss=center"],
    ["~loss", "loss.weight=1"],
    ["loss=cluster", "seed", "loss.weight=2"],
    ["=1"],
    ["a=b=[", "seed=1"],
    ["data.root=~"],
    ["seed=bool(on)"],
]
WRONG_WITH_OWN = [
    ["loss=unresolved", "seed=1"],
    ["loss=mine", "loss.alias.epochs=4"],
    ["sampler.q=0.5"],
    ["sampler=power", "sampler.q=0.5"],
    ["extra=few"],
    ["data=more", "extra.number=3"],
]


def fresh(words: Sequence[str], folder: str | None) -> dict[Any, Any]:
    """What Hydra and OmegaConf make of the words, without anything of ours."""
    place = [f"hydra.searchpath=['file://{folder}']"] if folder else []
    with initialize_config_dir(str(shipped("conf").resolve()), version_base="1.3"):
        config = hydra_compose("config", [*words, *place], return_hydra_config=True)
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
def composers(own: str) -> dict[str | None, Composer]:
    """One for all tests, so that whatever one configuration left behind would show in another."""
    return {None: Composer(), own: Composer(own)}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words that Hydra was asked to compose."""
    lists: list[list[str]] = []

    def noted(name: str, words: list[str], **options: Any) -> Any:
        lists.append(words)
        return hydra_compose(name, words, **options)

    monkeypatch.setattr("fer_lightning.config.compose.hydra_compose", noted)
    return lists


def require_same(words: list[str], folder: str | None, composer: Composer) -> None:
    """Representations tell 1 from 1.0 and True, equal NaN, and hold the order of keys."""
    expected = repr(fresh(words, folder))
    assert repr(composer(words)) == expected
    assert repr(composer(words)) == expected


@pytest.mark.parametrize("words", FINE, ids=" ".join)
def test_what_is_remembered_is_what_hydra_composes(
    words: list[str], composers: dict[str | None, Composer]
) -> None:
    require_same(words, None, composers[None])


@pytest.mark.parametrize("words", FINE_WITH_OWN, ids=" ".join)
def test_a_users_own_options_are_remembered_as_hydra_composes_them(
    words: list[str], own: str, composers: dict[str | None, Composer]
) -> None:
    require_same(words, own, composers[own])


def require_same_mistake(words: list[str], folder: str | None, composer: Composer) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011
        fresh(words, folder)
    messages = []
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            composer(words)
        assert type(caught.value.__cause__) is expected.type
        assert str(caught.value.__cause__) == str(expected.value)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_mistake_is_told_as_hydra_tells_it(words: list[str], composers: dict[str | None, Composer]) -> None:
    require_same_mistake(words, None, composers[None])


@pytest.mark.parametrize("words", WRONG_WITH_OWN, ids=" ".join)
def test_a_mistake_in_a_users_own_options_is_told_as_hydra_tells_it(
    words: list[str], own: str, composers: dict[str | None, Composer]
) -> None:
    require_same_mistake(words, own, composers[own])


def test_hydra_composes_each_option_of_a_sweep_once(asked: list[list[str]]) -> None:
    losses, weights = ("center", "cluster", "contrastive_center", "island"), list(groups()["class_weights"])[:5]
    factors, seeds = [k / 20 for k in range(20)], range(5)
    composer = Composer()
    found = {
        (loss, scheme, factor, seed): composer(
            [f"loss.weight={factor}", f"loss={loss}", "stage.epochs=4", f"class_weights={scheme}", f"seed={seed}"]
        )
        for loss, scheme, factor, seed in product(losses, weights, factors, seeds)
    }
    assert len(found) == 2000
    assert asked == [
        *([f"loss={losses[0]}", f"class_weights={scheme}"] for scheme in weights),
        *([f"loss={loss}", f"class_weights={weights[0]}"] for loss in losses[1:]),
    ]
    for (loss, scheme, factor, seed), config in found.items():
        assert (config["choices"]["loss"], config["choices"]["class_weights"]) == (loss, scheme)
        assert config["loss"]["_target_"].split(".")[-2] == loss
        assert config["class_weights"]["_target_"].endswith(scheme)
        assert (config["loss"]["weight"], config["seed"]) == (factor, seed)
        assert config["stage"]["fine_tuning"]["epochs"] == config["stage"]["epochs"] == 4
    for case in list(found)[::397]:
        loss, scheme, factor, seed = case
        words = [
            f"loss={loss}",
            f"class_weights={scheme}",
            f"loss.weight={factor}",
            f"seed={seed}",
            "stage.epochs=4",
        ]
        assert repr(found[case]) == repr(fresh(words, None))


def test_options_are_put_together_as_hydra_composes_them(own: str) -> None:
    composer = Composer(own)
    trainers, necks = ("gpu", "alone", "other"), ("identity", "reach", "linear512_prelu")
    losses = cycle(("softmax", "center"))
    for (trainer, neck), loss in zip(product(trainers, necks), losses, strict=False):
        require_same([f"loss={loss}", f"trainer={trainer}", f"neck={neck}"], own, composer)


def test_only_options_that_say_nothing_of_other_groups_are_put_together(own: str, asked: list[list[str]]) -> None:
    composer = Composer(own)
    composer(["loss=center", "neck=identity"])
    composer(["trainer=alone", "loss=softmax"])
    asked.clear()
    assert composer(["loss=center", "trainer=alone"])["trainer"]["threads"] == 7
    assert composer(["loss=softmax", "trainer=alone", "neck=identity"])["choices"]["neck"] == "identity"
    assert not asked
    composer(["loss=center", "neck=reach"])
    composer(["loss=softmax", "neck=reach"])
    assert len(asked) == 2


def test_a_word_that_hydra_must_see_after_a_value_is_seen_with_all_others(asked: list[list[str]]) -> None:
    composer = Composer()
    words = ["seed=1", "++loss.label_smoothing=0.5", "loss.label_smoothing=0.1"]
    assert composer(words) == composer(words)
    assert asked == [words, words]


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

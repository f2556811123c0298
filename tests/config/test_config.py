"""Every mistake in a configuration is found before anything is loaded, and told in one line that names it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from configs import ROWS, composer

from fer_lightning.cli.train import train
from fer_lightning.config.compose import compose
from fer_lightning.config.overrides import apart
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.errors import UserError
from fer_lightning.run.check_config import check

WRONG_WORDS = ("loss", "loss=", "=cluster", "loss=a=b=[", "loss=cluster,softmax", "~seed", "~loss")


def checked(*overrides: str, config_dir: str | None = None) -> dict[str, Any]:
    config = compose(overrides, config_dir) if config_dir else composer()(overrides)
    check(config)
    return config


def mistake(overrides: Sequence[str], config_dir: str | None = None) -> str:
    """The one line that a user is told."""
    with pytest.raises(UserError) as caught:
        checked(*overrides, config_dir=config_dir)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def own_option(folder: Path, group: str, name: str, text: str) -> str:
    (folder / group).mkdir()
    (folder / group / f"{name}.yaml").write_text(text)
    return str(folder)


def values(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [value for child in node.values() for value in values(child)]
    return [value for child in node for value in values(child)] if isinstance(node, list) else [node]


@pytest.mark.parametrize("words", ROWS, ids=" ".join)
def test_every_option_composes_and_passes_the_check(words: list[str]) -> None:
    choices = checked(*words)["choices"]
    assert sorted(f"{group}={option}" for group, option in choices.items()) == sorted(words)


def test_every_group_of_the_defaults_list_has_a_folder_with_options() -> None:
    config = checked()
    assert set(config) == {*groups(), "seed", "optimism", "choices"}
    assert set(config["choices"]) == set(groups())
    assert all(groups().values())


def test_a_configuration_is_plain_values_without_interpolations() -> None:
    plain = values(checked("stage.epochs=7"))
    assert {type(value) for value in plain} <= {str, int, float, bool, type(None)}
    assert not any(isinstance(value, str) and "${" in value for value in plain)


def test_an_override_reaches_its_key_and_what_refers_to_it() -> None:
    config = checked("loss=cluster", "loss.weight=0.25", "stage.epochs=7", "seed=3")
    assert config["loss"]["weight"] == 0.25
    assert config["seed"] == 3
    assert config["stage"]["fine_tuning"]["epochs"] == 7


def test_composing_leaves_no_trace() -> None:
    before = checked()
    checked("loss=cluster", "seed=3")
    assert checked() == before


@pytest.mark.parametrize(
    ("override", "key", "near"),
    [
        ("loss.wieght=1", "loss.wieght", "weight"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", "lr"),
        ("trainer.device=2", "trainer.device", "devices"),
        ("data.batchsize=2", "data.batchsize", "batch_size"),
        ("sed=1", "sed", "seed"),
        ("stage.epoch=1", "stage.epoch", "epochs"),
        ("stage.fine_tuning.freez=-1", "stage.fine_tuning.freez", "freeze"),
        ("class_weights.normalize=as_is", "class_weights.normalize", "normalise"),
    ],
)
def test_a_misspelt_key_on_the_command_line_is_named_with_a_near_one(override: str, key: str, near: str) -> None:
    text = mistake(["loss=cluster", override])
    assert key in text
    assert near in text.replace(key, "")


@pytest.mark.parametrize(
    ("override", "key", "near"),
    [
        ("+loss.wieght=1", "loss.wieght", "weight"),
        ("+data.batchsize=2", "data.batchsize", "batch_size"),
        ("+stage.epoch=1", "stage.epoch", "epochs"),
        ("+lose=1", "lose", "loss"),
        ("+class_weights.normalize=as_is", "class_weights.normalize", "normalise"),
    ],
)
def test_a_key_forced_in_with_a_plus_is_refused_all_the_same(override: str, key: str, near: str) -> None:
    text = mistake(["loss=cluster", override])
    assert key in text
    assert near in text.replace(key, "")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("loss=clusterr", ("clusterr", "cluster")),
        ("losss=cluster", ("losss", "loss")),
        ("trainer=tpu", ("tpu", "cpu")),
    ],
)
def test_an_unknown_option_or_group_is_named_with_what_there_is(override: str, named: tuple[str, ...]) -> None:
    text = mistake([override])
    assert all(word in text for word in named)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimizer.lr=abc", "optimizer.lr"),
        ("optimizer.lr=null", "optimizer.lr"),
        ("optimizer.fused=maybe", "optimizer.fused"),
        ("optimizer.part_lr.neck=low", "optimizer.part_lr"),
        ("optimizer.ema_decay=high", "optimizer.ema_decay"),
        ("schedule.warmup=long", "schedule.warmup"),
        ("seed=1.5", "seed"),
        ("seed=true", "seed"),
        ("loss.center_update=momentum", "loss.center_update"),
        ("loss.weight=[1]", "loss.weight"),
        ("data.batch_size=1.5", "data.batch_size"),
        ("data.batch_size=many", "data.batch_size"),
        ("data.workers=two", "data.workers"),
        ("data.classes=happy", "data.classes"),
        ("data.codec=gif", "data.codec"),
        ("class_weights.normalise=sum", "class_weights.normalise"),
        ("stage.epochs=ten", "stage.epochs"),
        ("stage.epochs=0", "epochs"),
        ("stage.fine_tuning.batch_norm=some", "stage.fine_tuning.batch_norm"),
        ("stage.fine_tuning.loss=center", "stage.fine_tuning.loss"),
        ("trainer.accelerator=tpu", "trainer.accelerator"),
        ("trainer.channels_last=maybe", "trainer.channels_last"),
        ("trainer.gradient_clip=yes", "trainer.gradient_clip"),
        ("neck.features=0.5", "neck.features"),
        ("transform.flip=often", "transform.flip"),
        ("backbone.name=3", "backbone.name"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_key_and_value(override: str, key: str) -> None:
    text = mistake(["loss=cluster", override])
    assert key in text
    assert override.partition("=")[2].strip("[]") in text.replace("None", "null").lower()


def test_what_data_sets_share_stands_once_and_is_no_choice(capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for path in (shipped("conf") / "data").glob("*.yaml") if path.stem != "_defaults"]
    assert sorted(path.stem for path in files) == groups()["data"]
    assert all("\ndefaults: [_defaults, _self_]\n" in path.read_text() for path in files)
    assert "affectnet" in (text := mistake(["data=nowhere"]))
    assert "_defaults" not in text
    assert "no _target_" in mistake(["data=_defaults"])
    assert train(["--help"]) == 0
    assert "data: affectnet, " in (text := capsys.readouterr().out)
    assert "_defaults" not in text


def test_an_integer_is_a_number() -> None:
    assert checked("loss=cluster", "loss.weight=1", "optimizer.lr=1")["loss"]["weight"] == 1


@pytest.mark.parametrize("target", ["fer_lightning.losses.cluster.ClusterHaed", "no.such.module", "1 2"])
def test_a_target_that_is_not_there_is_named(tmp_path: Path, target: str) -> None:
    folder = own_option(tmp_path, "loss", "mine", f"_target_: {target}\n")
    text = mistake(["loss=mine"], folder)
    assert "loss" in text
    assert target in text


def test_an_option_without_a_target_is_refused(tmp_path: Path) -> None:
    assert "_target_" in mistake(["loss=mine"], own_option(tmp_path, "loss", "mine", "weight: 1.0\n"))


def test_a_users_own_option_is_found_and_checked(tmp_path: Path) -> None:
    text = "_target_: fer_lightning.losses.cluster.ClusterHead\nweight: 0.5\n"
    config = checked("loss=mine", config_dir=own_option(tmp_path, "loss", "mine", text))
    assert config["loss"]["weight"] == 0.5
    assert config["choices"]["loss"] == "mine"


def test_a_misspelt_key_in_a_users_yaml_is_named_with_a_near_one(tmp_path: Path) -> None:
    text = "_target_: fer_lightning.losses.cluster.ClusterHead\nwieght: 0.5\n"
    told = mistake(["loss=mine"], own_option(tmp_path, "loss", "mine", text))
    assert "loss.wieght" in told
    assert "did you mean weight" in told


def test_a_wrong_type_in_a_users_yaml_is_named(tmp_path: Path) -> None:
    text = "_target_: fer_lightning.losses.cluster.ClusterHead\nweight: heavy\n"
    assert "loss.weight='heavy'" in mistake(["loss=mine"], own_option(tmp_path, "loss", "mine", text))


def test_a_number_that_is_needed_and_missing_is_named(tmp_path: Path) -> None:
    text = "defaults: [adamw, _self_]\n_target_: fer_lightning.training.optimizers.sgd\n"
    folder = own_option(tmp_path, "optimizer", "mine", text)
    assert "optimizer.momentum" in mistake(["optimizer=mine"], folder)


@pytest.mark.parametrize("text", ["_target_: [\n", "just words\n", "a: b: c\n"])
def test_yaml_that_is_no_yaml_is_one_line_too(tmp_path: Path, text: str) -> None:
    mistake(["loss=mine"], own_option(tmp_path, "loss", "mine", text))


def test_an_unresolved_interpolation_is_named(tmp_path: Path) -> None:
    text = "_target_: fer_lightning.losses.cluster.ClusterHead\nweight: ${no.such}\n"
    assert "no.such" in mistake(["loss=mine"], own_option(tmp_path, "loss", "mine", text))


def test_a_config_dir_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in mistake([], str(tmp_path / "nowhere"))


@pytest.mark.parametrize("folder", ["with space", "comma,quote'", "percent%", "eq=ual"])
def test_a_config_dir_may_have_any_name(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    text = "_target_: fer_lightning.losses.softmax.SoftmaxHead\n"
    assert checked("loss=mine", config_dir=own_option(tmp_path / folder, "loss", "mine", text))


@pytest.mark.parametrize("override", WRONG_WORDS)
def test_words_that_are_no_override_are_refused_in_one_line(override: str) -> None:
    assert mistake([override])


def test_words_about_hydra_are_told_from_those_about_runs() -> None:
    of_hydra = [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "+hydra.launcher.x.y=1",
        "++hydra.verbose=true",
    ]
    assert apart(["loss=center", *of_hydra, "+a.hydra.b=1"]) == (["loss=center", "+a.hydra.b=1"], of_hydra)

"""Activations that enter the last block: trained from as through pictures, shared, kept as computed, not stale."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import SMALL, Started, weights
from torch import Tensor

from fer_lightning.config.compose import Composer
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import home
from fer_lightning.data.samplers import Views
from fer_lightning.evaluation import activations
from fer_lightning.evaluation.activations import KeptActivations, Shown
from fer_lightning.models.forward_pass import Pass
from fer_lightning.models.freeze import freeze
from fer_lightning.models.last_block import split
from fer_lightning.models.network import Network
from fer_lightning.run.check_config import check
from fer_lightning.run.estimate_cost import measure
from fer_lightning.run.set_up import RunSetup, set_up
from fer_lightning.run.train_stages import Training

COMPOSE = Composer()
TUNED = ["stage=fine_tuning", "stage.epochs=3", "trainer.precision=64-true", "loss=cluster"]
CACHED, LIVE = "stage.fine_tuning.cached=true", "stage.fine_tuning.cached=false"
OWN = ["data.margin=0.05"]
"""Faces of these tests alone, so that no other test has kept anything of them."""


def setup(*words: str) -> RunSetup:
    small = (
        SMALL
        if "backbone=mobilenetv1_vggface2" not in words
        else [word for word in SMALL if "backbone" not in word]
    )
    config = COMPOSE([*small, *TUNED, *words])
    check(config)
    return set_up(config)


def trained(made: RunSetup, directory: Path) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the weights after the last epoch, the embeddings they give, and losses and scores of all epochs."""
    training = Training(made, directory, watch_test=True)
    network = training.run()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state["embeddings of the training part"], _ = training.train_embeddings(network)
    scores = [
        {name: value for name, value in epoch.items() if name not in ("images_per_second", "waiting_share")}
        for epoch in training.results[-1].history
    ]
    return state, scores


def assert_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assert one[0].keys() == other[0].keys()
    for name, value in one[0].items():
        torch.testing.assert_close(other[0][name], value, rtol=0, atol=1e-9, msg=name)
    assert len(one[1]) == len(other[1]) > 1
    for mine, theirs in zip(one[1], other[1], strict=True):
        assert "test/macro_recall" in mine
        assert theirs == pytest.approx(mine, rel=0, abs=1e-6)  # the minival's loss is a float32 mean
        assert theirs["train/loss"] == pytest.approx(mine["train/loss"], rel=0, abs=1e-9)


MOBILENET = [
    "backbone=mobilenetv1_vggface2",
    "stage.fine_tuning.pretrained=false",
    "data.rows=60",
    "stage.epochs=2",
]


@pytest.mark.parametrize(
    "words",
    [
        ["stage.fine_tuning.views=2", "sampler=repeat_factor", "class_weights=min_over_count"],
        ["stage.fine_tuning.views=4", "optimizer.ema_decay=0.9", "optimizer.layer_decay=0.5", "stage.epochs=2"],
        [
            "transform=none",
            "stage=two_stage",
            "stage.epochs=2",
            "stage.fine_tuning.freeze=layer3",
            "trainer.accumulate=2",
            "trainer.channels_last=false",
        ],
        ["stage.fine_tuning.views=2", *MOBILENET],
    ],
    ids=["repeated", "averaged", "two stages", "mobilenet"],
)
def test_training_from_activations_is_training_through_pictures(tmp_path: Path, words: list[str]) -> None:
    cached = trained(setup(*words, CACHED), tmp_path / "cached")
    live = trained(setup(*words, LIVE), tmp_path / "live")
    assert_same(live, cached)


def test_without_views_the_pictures_are_shown_as_they_are(tmp_path: Path) -> None:
    cached = trained(setup("transform=strong", CACHED), tmp_path / "cached")
    live = trained(setup("transform=none", LIVE), tmp_path / "live")
    assert_same(live, cached)


def test_without_views_and_not_cached_every_epoch_augments_anew() -> None:
    made = setup(LIVE)
    training = Training(made, Path("nowhere"))
    network = Network(made.backbone, made.neck, made.heads["configured"])
    assert training._data(made.stages[0], network) is made.data


def test_checkpoints_hold_the_whole_network(tmp_path: Path) -> None:
    for name in (CACHED, LIVE):
        trained(setup(name, "stage.epochs=1", "optimizer.ema_decay=0.9"), tmp_path / name)
    cached, live = (
        torch.load(tmp_path / name / "best.ckpt", weights_only=True)["state_dict"] for name in (CACHED, LIVE)
    )
    assert cached.keys() == live.keys()
    frozen = [key for key in live if key.startswith("network.backbone.network.layer1")]
    assert frozen
    assert all(torch.equal(cached[key], live[key]) for key in frozen)


def test_two_ranks_train_what_one_trains(tmp_path: Path) -> None:
    words = [
        *SMALL,
        *TUNED,
        CACHED,
        "stage.fine_tuning.views=2",
        "stage.fine_tuning.batch_norm=never",
        "stage.epochs=2",
    ]
    runs = [Started([*words, *more], tmp_path / str(k)) for k, more in enumerate(([], ["trainer=ddp_cpu"]))]
    for run in runs:
        run.rest()
    one, two = (weights(tmp_path / str(k)) for k in range(2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-8, msg=name)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is computed from now on and kept, in words."""
    names: list[str] = []
    compute = KeptActivations._compute

    def noted(self: KeptActivations, shown: Shown, entry: Path) -> None:
        names.append(str(shown))
        compute(self, shown, entry)

    monkeypatch.setattr(KeptActivations, "_compute", noted)
    return names


def test_runs_of_all_losses_seeds_and_stages_share_activations(computed: list[str], tmp_path: Path) -> None:
    words = ["stage.fine_tuning.views=2", "stage.epochs=1", "stage.fine_tuning.views_seed=12", CACHED, *OWN]
    trained(setup(*words, "seed=0"), tmp_path / "first")
    assert computed == ["train, view 1 of 2", "train, view 2 of 2", "minival", "test", "train"]
    trained(setup(*words, "seed=1", "loss=center", "sampler=balanced", "stage=two_stage"), tmp_path / "second")
    assert len(computed) == 5


def kept(made: RunSetup, how: Pass | None = None) -> KeptActivations:
    forward_pass = how or made.forward_pass
    freeze(made.backbone, -1, "with_block")
    forward_pass.place(made.backbone)
    return KeptActivations(split(made.backbone, -1).front, made.backbone, forward_pass)


@pytest.fixture(scope="module")
def some() -> RunSetup:
    return setup(CACHED)


def entry(made: RunSetup, part: str = "train", how: Pass | None = None, view: int | None = None) -> Path:
    return kept(made, how)._entry(Shown(made.data, part, view))


def test_another_weight_picture_view_or_precision_is_another_entry(some: RunSetup) -> None:
    plain = Views(3, 0, "paper")
    shown = {
        name: some.data.shown_in(views) for name, views in {"views": plain, "seed": replace(plain, seed=1)}.items()
    }
    entries = {
        "as it is": entry(some),
        "part": entry(some, "test"),
        "crop": entry(setup(CACHED, "data.crop=28")),
        "mean": entry(setup(CACHED, "backbone.mean=[0.4,0.5,0.5]")),
        "float32": entry(some, how=Pass("cpu", "32-true", True)),
        "bf16": entry(some, how=Pass("cpu", "bf16-mixed", True)),
        **{name: entry(replace(some, data=data), view=0) for name, data in shown.items()},
        "view": entry(replace(some, data=shown["views"]), view=1),
    }
    some.forward_pass.place(some.backbone)
    first, last = (next(some.backbone.network.get_submodule(name).parameters()) for name in ("layer1", "layer4"))
    with torch.no_grad():
        first[0] += 1
        entries["frozen weight"] = entry(some)
        first[0] -= 1
        last[0] += 1
    assert len({*entries.values()}) == len(entries)
    assert entry(setup(CACHED, "seed=3", "loss=softmax")) == entry(setup(CACHED))


@pytest.mark.parametrize(
    ("precision", "channels_last", "dtype"),
    [("bf16-mixed", True, torch.bfloat16), ("32-true", False, torch.float32), ("64-true", True, torch.float64)],
)
def test_activations_are_kept_as_they_were_computed(
    some: RunSetup, precision: str, channels_last: bool, dtype: torch.dtype
) -> None:
    how = Pass("cpu", precision, channels_last)
    made = kept(some, how)
    (found,) = made.of([Shown(some.data, "minival")])
    pictures = torch.cat([images for images, _ in some.data.in_order("minival")])
    pictures = pictures.contiguous(memory_format=how.memory_format)
    with torch.no_grad():
        expected = how.run(made.front, pictures)
    assert found.dtype == expected.dtype == dtype
    assert found.is_contiguous(memory_format=how.memory_format)
    torch.testing.assert_close(found, expected)
    file = made._entry(Shown(some.data, "minival")) / "activations.npy"
    assert file.stat().st_size == pytest.approx(expected.nbytes, abs=200)


def test_what_was_half_written_is_computed_again(
    some: RunSetup, computed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    made, shown = kept(some), Shown(some.data, "minival")
    each = Pass.each

    def cut(self: Pass, batches: Iterable[Any], compute: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        yield next(each(self, batches, compute))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pass, "each", cut)
        with pytest.raises(KeyboardInterrupt):
            made.of([shown])
    assert not [*tmp_path.rglob("*.npy")]
    (first,), (second,) = made.of([shown]), made.of([shown])
    assert computed == ["minival", "minival"]
    assert torch.equal(first, second)
    assert np.isfinite(first.numpy()).all()


def test_a_disk_that_cannot_hold_them_is_one_line_with_the_size(
    some: RunSetup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    made = kept(some)
    made.of([Shown(some.data, "minival")])
    usage = shutil.disk_usage(home())._replace(free=100_000)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda _: usage)
    data = some.data.shown_in(Views(2, 0, "paper"))
    with pytest.raises(UserError) as caught:
        made.of([*(Shown(data, "train", view) for view in range(2)), Shown(some.data, "minival")])
    needed = 2 * len(some.data.train_rows) * 64 * 2 * 2 * 8  # the minival is kept already
    assert str(caught.value).startswith(
        f"stage: cached=true would keep {needed / 1000:.0f}kB of activations in {tmp_path}, and 100kB are free;"
    )


def test_the_plan_of_a_run_knows_the_size_and_says_what_is_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.run.estimate_cost.SECONDS", 0.0)
    config = COMPOSE([*SMALL, *TUNED, CACHED, "stage.fine_tuning.views=3", "trainer.precision=bf16-mixed"])
    cost = measure(config)
    # three views and, to compare centers with class means, the pictures as they are
    assert cost["disk"]["activations"] == 4 * cost["rows"]["train"] * 64 * 2 * 2 * 2
    assert cost["views"] == 5
    assert cost["notices"] == []
    monkeypatch.setattr("fer_lightning.run.notices.WORTH_KEEPING", 1000)
    assert "not worth it; set cached=false" in measure(config)["notices"][0]
    assert measure(COMPOSE([*SMALL, *TUNED, "stage.fine_tuning.views=3"]))["disk"]["activations"] == 0


@pytest.mark.parametrize("words", [["stage.fine_tuning.freeze=none"], ["stage.fine_tuning.freeze=stem"]])
def test_a_mistake_is_found_before_faces_are_prepared(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.data.dataset.store", lambda *_: pytest.fail("data was prepared"))
    with pytest.raises(UserError, match=r"layer4; set freeze=-1, or cached=false"):
        setup(*words, CACHED)
    with pytest.raises(UserError, match="views=2 needs an augmentation"):
        setup("transform=none", "stage.fine_tuning.views=2", CACHED)


def test_mixing_has_no_effect_and_that_is_told(tmp_path: Path) -> None:
    training = Training(setup(CACHED, "stage.epochs=1", "mixing=mixup"), tmp_path)
    training.run()
    assert any("trained from the activations of a frozen backbone" in text for text in training.notices)

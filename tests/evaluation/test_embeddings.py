"""A frozen backbone's embeddings: trained from as through the backbone itself, shared, and never stale."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from runs import SMALL
from torch import Tensor, nn

from fer_lightning.config.compose import Composer
from fer_lightning.core import files
from fer_lightning.core.errors import UserError
from fer_lightning.data.samplers import Pick, Views
from fer_lightning.evaluation import embeddings
from fer_lightning.evaluation.embeddings import backbone_embeddings, embeddings_key
from fer_lightning.models.forward_pass import Pass, state_hash
from fer_lightning.run import build
from fer_lightning.run.check_config import check
from fer_lightning.run.set_up import RunSetup, set_up
from fer_lightning.run.train_stages import Training

COMPOSE = Composer()
FROZEN = [*SMALL, "stage=feature_extraction", "stage.epochs=3", "trainer.precision=64-true", "loss=cluster"]


def setup(*words: str) -> RunSetup:
    config = COMPOSE([*FROZEN, *words])
    check(config)
    return set_up(config)


def trained(made: RunSetup, directory: Path) -> dict[str, Tensor]:
    """The weights after the last epoch."""
    return {name: value.clone() for name, value in Training(made, directory).run().state_dict().items()}


@pytest.mark.parametrize("views", [0, 2, 5])
def test_training_from_embeddings_is_training_through_the_backbone(tmp_path: Path, views: int) -> None:
    """Some pictures are shown several times an epoch, and there are more or fewer views than epochs."""
    words = [f"stage.feature_extraction.views={views}", "sampler=repeat_factor", "class_weights=min_over_count"]
    cached = trained(setup(*words), tmp_path / "cached")
    live = trained(setup(*words, "stage.feature_extraction.cached=false"), tmp_path / "live")
    assert cached.keys() == live.keys()
    for name, value in live.items():
        if value.is_floating_point():
            assert value.dtype == torch.float64
        torch.testing.assert_close(cached[name], value, rtol=0, atol=1e-9, msg=name)


def test_views_change_what_is_learnt_and_so_does_their_seed(tmp_path: Path) -> None:
    found = [
        trained(setup(*words), tmp_path / str(number))["neck.0.weight"]
        for number, words in enumerate(
            (
                [],
                ["stage.feature_extraction.views=2"],
                ["stage.feature_extraction.views=2", "stage.feature_extraction.views_seed=1"],
            )
        )
    ]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[1], found[2])


@pytest.mark.parametrize("cached", ["true", "false"])
def test_a_frozen_backbone_is_the_same_to_the_last_bit_afterwards(tmp_path: Path, cached: str) -> None:
    made = setup(f"stage.feature_extraction.cached={cached}", "stage.epochs=1")
    before = {name: value.clone() for name, value in made.backbone.state_dict().items()}
    trained(made, tmp_path)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in before.items():
        assert torch.equal(kept[f"network.backbone.{name}"].to(value.dtype), value), name
        assert torch.equal(made.backbone.state_dict()[name].to(value.dtype), value), name


def test_a_view_is_one_of_the_pictures_augmented_draws() -> None:
    views = Views(3, 7, "paper")
    assert views.of(Pick(5, 0, 0)) == Pick(5, 0, 0)
    assert views.of(Pick(5, 4, 0)) == Pick(5, 1, 0)
    assert views.of(Pick(5, 4, 2)) == Pick(5, 0, 0)  # shown again in an epoch it is another view
    data = setup().data
    seen = data.shown_in(views)
    shown = [seen.dataset("train", training=True)[Pick(3, epoch, 0)][0] for epoch in range(6)]
    assert all(torch.equal(shown[k], shown[k + 3]) for k in range(3))
    assert not torch.equal(shown[0], shown[1])
    data.seed = 7
    assert torch.equal(shown[1], data.dataset("train", training=True)[Pick(3, 1, 0)][0])
    assert torch.equal(seen.dataset("train")[3][0], data.dataset("train")[3][0])


def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is computed from now on by passes over pictures, by name."""
    names: list[str] = []
    over = Pass.over

    def noted(self: Pass, loader: Any, compute: Callable[[Tensor], Tensor], what: str) -> Tensor:
        names.append(what)
        return over(self, loader, compute, what)

    monkeypatch.setattr(Pass, "over", noted)
    return names


def test_runs_of_all_losses_and_seeds_share_their_embeddings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["stage.feature_extraction.views=2", "stage.epochs=1", "stage.feature_extraction.views_seed=11"]
    trained(setup(*words, "seed=0"), tmp_path / "first")
    names = computed(monkeypatch)
    trained(setup(*words, "seed=1", "loss=center", "sampler=balanced"), tmp_path / "second")
    assert not [name for name in names if name.startswith("embedding")]


@pytest.fixture(scope="module")
def some() -> RunSetup:
    return setup()


def key(made: RunSetup, part: str = "train", how: Pass | None = None, view: int | None = None, **more: Any) -> str:
    weights = state_hash(made.backbone)
    return embeddings_key(
        made.backbone, made.data, part, how or made.forward_pass, weights=weights, view=view, **more
    )


def test_the_key_is_the_same_for_the_same(some: RunSetup) -> None:
    assert key(some) == key(setup("seed=3", "loss=softmax", "data.batch_size=32", "data.workers=1"))


def test_any_change_of_an_ingredient_is_another_key(some: RunSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, buffers, code, faces, part, rows, side, mirror, view, views' seed and transform, way, versions."""
    keys = {"as it is": key(some), "part": key(some, "test"), "mirrored": key(some, mirrored=True)}
    for name, words in {
        "rows": ["data.split_seed=1"],
        "share": ["data.minival=0.3"],
        "faces": ["data.rows=60"],
        "margin": ["data.margin=0.1"],
        "crop": ["data.crop=28"],
        "weights": ["backbone.epochs=2"],
        "normalisation": ["backbone.mean=[0.4,0.5,0.5]"],
        "network": ["backbone.arguments.layers=[1,1,1,2]"],
    }.items():
        keys[name] = key(setup(*words))
    for name, how in {
        "precision": Pass("cpu", "bf16-mixed", True),
        "float32": Pass("cpu", "32-true", True),
        "channels_last": Pass("cpu", "64-true", False),
        "device": Pass("cuda", "64-true", True),
    }.items():
        keys[name] = key(some, how=how)
    plain = Views(3, 0, "paper")
    for name, views in {
        "view": plain,
        "seed": replace(plain, seed=1),
        "transform": replace(plain, code="strong"),
    }.items():
        seen = some.data.shown_in(views)
        keys[f"view: {name}"] = key(replace(some, data=seen), view=0)
    keys["other view"] = key(replace(some, data=some.data.shown_in(plain)), view=1)
    norm = next(module for module in some.backbone.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean[0] += 1
    keys["buffer"] = key(some)
    norm.running_mean[0] -= 1
    assert keys["as it is"] == key(some)
    monkeypatch.setattr(embeddings, "versions", lambda: {"torch": "99"})
    keys["versions"] = key(some)
    assert len(set(keys.values())) == len(keys), keys


def test_the_transform_of_views_is_what_the_config_says() -> None:
    codes = set()
    for words in (["transform=paper"], ["transform=strong"], ["transform.rotate=11.0"]):
        config = COMPOSE([*FROZEN, "stage.feature_extraction.views=2", *words])
        (stage,) = build.stages(config).values()
        views = build.views(config, stage, build.augmentation(config))
        assert views is not None
        codes.add(views.code)
    assert len(codes) == 3


def test_a_half_written_entry_is_computed_again(
    some: RunSetup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    expected = backbone_embeddings(some.backbone, some.data, "minival", some.forward_pass, weights=None)
    entry = tmp_path / "embeddings" / key(some, "minival")[:32]
    entry.mkdir(parents=True)
    (entry / "about.txt").write_text("half")
    (entry / ".embeddings.npy.x.partial").write_bytes(b"\x93NUMPY half")
    names = computed(monkeypatch)
    weights = state_hash(some.backbone)
    found = [
        backbone_embeddings(some.backbone, some.data, "minival", some.forward_pass, weights=weights)
        for _ in range(2)
    ]
    assert names == ["embedding minival"]
    assert all(torch.equal(one, expected) for one in found)


def test_a_cache_that_may_only_be_read_is_read_and_else_told_in_one_line(
    some: RunSetup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    weights = state_hash(some.backbone)
    expected = backbone_embeddings(some.backbone, some.data, "minival", some.forward_pass, weights=weights)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    found = backbone_embeddings(some.backbone, some.data, "minival", some.forward_pass, weights=weights)
    assert torch.equal(found, expected)
    with pytest.raises(
        UserError, match=rf"^the cache {tmp_path} cannot be written to .*; set FER_CACHE to a folder"
    ):
        backbone_embeddings(some.backbone, some.data, "test", some.forward_pass, weights=weights)

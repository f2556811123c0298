"""backbone=timm: any network of timm's, on pictures as it was trained on; a line where one cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from fer_lightning.config.compose import Composer
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import file_hash
from fer_lightning.models.backbone import Backbone, TimmBackbone
from fer_lightning.run import build
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.run.check_config import check

SMALL = {
    "resnet10t": 176,
    "mobilenetv3_small_050": 224,  # has a layer behind num_features
    "vit_tiny_patch16_224": 224,
    "deit_tiny_distilled_patch16_224": 224,
    "convnext_atto": 224,
    "efficientnet_b0": 224,
    "regnetx_002": 224,
    "repvgg_a0": 224,
    "ghostnet_050": 224,
    "efficientvit_m0": 224,
    "edgenext_xx_small": 256,
    "levit_128s": 224,
    "lcnet_050": 224,
    "starnet_s050": 224,
    "poolformer_s12": 224,
    "test_vit.r160_in1k": 160,
}
COMPOSE = Composer()
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def made(name: str, *words: str, pretrained: bool = False) -> Backbone:
    config = COMPOSE(["backbone=timm", f"backbone.name={name}", "data.size=48", *words])
    check(config)
    return build.backbone(config, pretrained=pretrained)


def mistake(name: str, *words: str, pretrained: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        made(name, *words, pretrained=pretrained)
    assert str(caught.value).startswith("backbone.")
    return " ".join(str(caught.value).split())


def images(side: int = 48) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
def test_pictures_of_another_size_become_embeddings(name: str) -> None:
    backbone = made(name).eval()
    assert backbone.spec["input_size"] == [SMALL[name]] * 2
    with torch.no_grad():
        embeddings = backbone(images())
    assert embeddings.shape == (2, backbone.num_features)
    assert not torch.equal(embeddings[0], embeddings[1])
    again = TimmBackbone(**backbone.spec)
    assert again.num_features == backbone.num_features
    again.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images()), embeddings)


def seen(backbone: Backbone, pictures: torch.Tensor) -> torch.Tensor:
    """What the network inside is given."""
    given: list[torch.Tensor] = []
    backbone.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        backbone.eval()(pictures)
    return given[0]


def test_the_networks_own_mean_and_std_are_taken_unless_others_are_said() -> None:
    spec = made("resnet10t").spec
    assert (spec["mean"], spec["std"]) == IMAGENET
    assert made("vit_tiny_patch16_224").spec["mean"] == [0.5] * 3
    spec = made("resnet10t", "backbone.mean=[0.1,0.2,0.3]", "backbone.std=[1,2,4]").spec
    assert (spec["mean"], spec["std"]) == ([0.1, 0.2, 0.3], [1, 2, 4])
    plain = seen(made("resnet10t", "backbone.input_size=48"), images())
    wanted = (images().float() / 255 - torch.tensor(IMAGENET[0]).view(3, 1, 1)) / torch.tensor(IMAGENET[1]).view(
        3, 1, 1
    )
    assert torch.allclose(plain, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["backbone.input_size=64"], [64, 64]),
        (["backbone.input_size=[64,96]"], [64, 96]),
        (["+backbone.arguments.img_size=96"], [96, 96]),
        (["+backbone.arguments.img_size=[64,96]"], [64, 96]),
        (["+backbone.arguments.img_size=96", "backbone.input_size=96"], [96, 96]),
    ],
)
def test_the_input_size_may_be_said(words: Sequence[str], size: list[int]) -> None:
    name = "vit_tiny_patch16_224" if "img_size" in words[0] else "resnet10t"
    backbone = made(name, *words)
    assert backbone.spec["input_size"] == size
    assert [*seen(backbone, images()).shape] == [2, 3, *size]


def test_resizing_averages_what_it_takes_together() -> None:
    """A grid of single pixels becomes grey, and not what lies between them."""
    grid = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    grid[..., ::4, ::4] = 240
    backbone = made("resnet10t", "backbone.input_size=24", "backbone.mean=[0,0,0]", "backbone.std=[1,1,1]")
    inside = 255 * seen(backbone, grid)[..., 2:-2, 2:-2]
    assert torch.allclose(inside, torch.full_like(inside, 240 / 16), atol=1)


def test_floats_and_bytes_are_resized_alike() -> None:
    backbone = made("resnet10t")
    assert torch.equal(seen(backbone, images()), seen(backbone, images().float()))


def test_pictures_of_the_right_size_are_taken_as_they_are() -> None:
    spec = made("resnet10t").spec
    sized, plain = TimmBackbone(**spec), TimmBackbone(**{**spec, "input_size": None})
    assert torch.equal(seen(sized, images(176)), seen(plain, images(176)))
    assert seen(plain, images(48)).shape == (2, 3, 48, 48)


@pytest.mark.parametrize("option", ["tiny", "seresnet50_vggface2", "mobilenetv1_vggface2"])
def test_the_other_backbones_take_pictures_as_they_are(option: str) -> None:
    backbone = build.backbone(COMPOSE([f"backbone={option}", "data.size=48"]), pretrained=False)
    assert backbone.spec["input_size"] is None
    assert seen(backbone, images(50)).shape == (2, 3, 50, 50)


def test_weights_come_from_a_local_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=5).state_dict(), path)
    assert made("resnet10t", f"backbone.weights={path}", pretrained=True).weights_hash == file_hash(path)
    line = mistake("resnet10t", pretrained=True)
    assert "backbone.weights is not set: resnet10t starts from a local file" in line
    assert "stage=from_scratch" in line
    line = mistake("resnet14t", f"backbone.weights={path}", pretrained=True)
    assert "do not fit the backbone" in line


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("resnet10", [], "timm has no such network; there is resnet"),
        ("resnet10t.nothing", [], "nothing"),
        ("'hf-hub:someone/net'", [], "would fetch weights"),
        ("resnet10t", ["+backbone.arguments.pretrained=true"], "pretrained would fetch weights"),
        ("resnet10t", ["+backbone.arguments.checkpoint_path=a"], "checkpoint_path would fetch weights"),
        ("resnet10t", ["+backbone.arguments.wide=2"], "timm cannot build it"),
        ("resnet10t", ["+backbone.arguments.num_classes=2"], "timm cannot build it"),
        ("resnet10t", ["+backbone.arguments.features_only=true"], "returns feature maps, not an embedding"),
        ("resnet10t", ["+backbone.arguments.global_pool=''"], "must return (N, num_features) = (2, 512)"),
        ("resnet10t", ["+backbone.arguments.in_chans=1"], "RuntimeError"),
        ("vit_tiny_patch16_224", ["backbone.input_size=100"], "AssertionError"),
        ("resnet10t", ["backbone.input_size=0"], "backbone.input_size=0: must be greater than or equal to 1"),
        ("resnet10t", ["backbone.input_size=[1,2,3]"], "give a side"),
        ("resnet10t", ["backbone.input_size=[]"], "give a side"),
        ("resnet10t", ["backbone.input_size=large"], "backbone.input_size='large'"),
        ("resnet10t", ["backbone.mean=[0,0]"], "three numbers"),
        ("resnet10t", ["backbone.std=[]"], "three numbers"),
        ("resnet10t", ["backbone.std=[1,1,0]"], "backbone.std.2=0: must be greater than 0"),
    ],
)
def test_what_cannot_be_used_is_one_line(name: str, words: Sequence[str], said: str) -> None:
    assert said in mistake(name, *words)


def test_a_mistake_is_found_before_faces_are_prepared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fer_lightning.data.dataset.store", lambda *_: pytest.fail("data was prepared"))
    words = ["backbone=timm", "backbone.name=resnet10t", "+backbone.arguments.in_chans=1", "stage=from_scratch"]
    assert run_main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "backbone.name=resnet10t" in line


def protocol(backbone: Backbone) -> dict[str, Any]:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            return [] if name == "classes" else self

    return build.protocol(COMPOSE([]), Anything(), "", backbone)  # type: ignore[arg-type]


def test_the_input_size_is_in_the_protocol_where_there_is_one() -> None:
    assert protocol(made("resnet10t"))["input_size"] == [176, 176]
    other = build.backbone(COMPOSE(["backbone=tiny"]), pretrained=False)
    assert "input_size" not in protocol(other)


def test_embeddings_are_kept_apart_by_input_size_and_arguments() -> None:
    words = [[], ["backbone.input_size=64"], ["+backbone.arguments.output_stride=16"]]
    assert len({made("resnet10t", *some).code for some in words}) == 3

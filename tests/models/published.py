"""Made-up weights of VGGFace2's SE-ResNet-50 in both published layouts, and the network that takes them so.

The network is written from the published architecture with torch.nn.functional alone: nothing of the package and
nothing of timm enters it.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

PICKLE, STATE_DICT = "pickle", "state_dict"
LAYOUTS = (PICKLE, STATE_DICT)
CLASSES = 11
BLOCKS = (3, 4, 6, 3)
MEAN_BGR = (91.4953, 103.8827, 131.0912)

Arrays = dict[str, npt.NDArray[np.float32]]

PARTS = {
    PICKLE: {
        "reduce": ("conv1", "bn1"),
        "3x3": ("conv2", "bn2"),
        "increase": ("conv3", "bn3"),
        "down": ("conv4", ""),
        "up": ("conv5", ""),
        "proj": ("downsample.0", "downsample.1"),
    },
    STATE_DICT: {
        part: (f"{size}{part}", f"{size}{part}_bn")
        for size, part in [("", "3x3"), *(("1x1_", part) for part in ("reduce", "increase", "down", "up", "proj"))]
    },
}
"""By layout, of each part of a block: names of the convolution and of the normalisation behind it."""


class Published:
    """The network as published: asks for its tensors by the names that a layout has for them.

    Args:
        layout: PICKLE or STATE_DICT.
        tensors: by name; where one is missing, ``create`` makes it.
    """

    def __init__(
        self, layout: str, tensors: dict[str, Tensor], create: Callable[..., Tensor] | None = None
    ) -> None:
        self.layout = layout
        self.tensors = tensors
        self.create = create
        self.used: set[str] = set()

    def tensor(self, name: str, *shape: int, x: Tensor | None = None) -> Tensor:
        self.used.add(name)
        if self.create and name not in self.tensors:
            self.tensors[name] = self.create(name, shape, x)
        return self.tensors[name]

    def conv(self, x: Tensor, name: str, width: int, size: int = 1, stride: int = 1, bias: bool = False) -> Tensor:
        weight = self.tensor(f"{name}.weight", width, x.shape[1], size, size)
        return F.conv2d(x, weight, self.tensor(f"{name}.bias", width) if bias else None, stride, size // 2)

    def norm(self, x: Tensor, name: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (
            self.tensor(f"{name}.{n}", x.shape[1], x=x).view(1, -1, 1, 1) for n in names
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def names(self, stage: int, block: int, part: str) -> tuple[str, str]:
        """Of a convolution and the normalisation behind it; stage and block count from 1."""
        conv, norm = PARTS[self.layout][part]
        before = f"layer{stage}.{block - 1}." if self.layout == PICKLE else f"conv{stage + 1}_{block}_"
        return before + conv, before + norm

    def block(self, x: Tensor, stage: int, block: int) -> Tensor:
        width = 32 * 2**stage
        stride = 2 if block == 1 and stage > 1 else 1

        def both(x: Tensor, part: str, width: int, size: int = 1, stride: int = 1) -> Tensor:
            conv, norm = self.names(stage, block, part)
            return self.norm(self.conv(x, conv, width, size, stride), norm)

        y = both(x, "reduce", width, stride=stride).relu()  # the stride is here, not on the 3x3
        y = both(y, "3x3", width, size=3).relu()
        y = both(y, "increase", 4 * width)
        gate = y.mean((2, 3), keepdim=True)
        gate = self.conv(gate, self.names(stage, block, "down")[0], width // 4, bias=True).relu()
        gate = self.conv(gate, self.names(stage, block, "up")[0], 4 * width, bias=True).sigmoid()
        shortcut = both(x, "proj", 4 * width, stride=stride) if block == 1 else x
        return (y * gate + shortcut).relu()

    def features(self, images: Tensor) -> Tensor:
        """(N, 2048) of uint8 RGB pictures."""
        x = images.float()
        if self.layout == PICKLE:
            x = x.flip(1) - torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
        else:
            x = x - torch.tensor(MEAN_BGR[::-1]).view(1, 3, 1, 1)
        first, norm = ("conv1", "bn1") if self.layout == PICKLE else ("conv1_7x7_s2", "conv1_7x7_s2_bn")
        x = self.norm(self.conv(x, first, 64, 7, 2), norm).relu()
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for stage, blocks in enumerate(BLOCKS, 1):
            for block in range(1, blocks + 1):
                x = self.block(x, stage, block)
        return x.mean((2, 3))

    def logits(self, images: Tensor) -> Tensor:
        """(N, CLASSES) of uint8 RGB pictures."""
        features = self.features(images)
        if self.layout == STATE_DICT:
            return self.conv(features[:, :, None, None], "classifier", CLASSES, bias=True).flatten(1)
        return F.linear(features, self.tensor("fc.weight", CLASSES, 2048), self.tensor("fc.bias", CLASSES))


def pictures(count: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


@cache
def made_up(layout: str, seed: int = 0) -> Arrays:
    """Random tensors by name, not to be altered; BatchNorm's are near what flows through it."""
    generator = torch.Generator().manual_seed(seed)

    def create(name: str, shape: tuple[int, ...], x: Tensor | None) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if x is None:
            return 0.1 * noise if len(shape) == 1 else noise * math.sqrt(2 / math.prod(shape[1:]))
        if name.endswith("running_mean"):
            return x.mean((0, 2, 3)) + 0.1 * noise * x.std((0, 2, 3))
        if name.endswith("running_var"):
            return x.var((0, 2, 3)) * (1 + 0.2 * noise.tanh()) + 0.01
        return 1 + 0.2 * noise.tanh() if name.endswith("weight") else 0.1 * noise

    network = Published(layout, {}, create)
    with torch.no_grad():
        network.logits(pictures(4, seed=1))
    return {name: value.numpy() for name, value in network.tensors.items()}


class _Python2(pickle._Pickler):  # type: ignore[name-defined]
    """Writes bytes and strings as Python 2 wrote its strings, and numpy's functions by their old names."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: bytes | str) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{value.__name__}\n".encode())
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string
    dispatch[type] = dispatch[type(len)] = dispatch[type(pictures)] = save_global


def python2_pickle(value: Any) -> bytes:
    """What Python 2 and its numpy would have written."""
    stream = BytesIO()
    _Python2(stream, protocol=2).dump(value)
    return stream.getvalue()

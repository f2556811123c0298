"""Numpy arrays by name in a pickle, read without running anything that it names."""

from __future__ import annotations

import pickle
import re
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError

NumberArray = npt.NDArray[Any]


class _Dtype:
    """What a pickle tells of a dtype, such as ``f4`` and ``<``."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order: Any = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """What a pickle tells of an array. It becomes one when all of it is known to be a number's bytes."""

    shape: tuple[int, ...] = ()
    dtype: _Dtype | None = None
    layout: str = "C"
    axes: tuple[int, ...] | None = None
    content: bytes | str = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, fortran, self.content = state
        self.layout = "F" if fortran else "C"

    @classmethod
    def from_buffer(cls, content: bytes, dtype: _Dtype, shape: tuple[int, ...], layout: str, *axes: Any) -> _Array:
        """How protocol 5 has it; with layout K the axes were permuted, and ``axes`` says how."""
        array = cls()
        array.content, array.dtype, array.shape = content, dtype, shape
        array.layout, array.axes = ("C", axes[0]) if layout == "K" else (layout, None)
        return array

    @property
    def kind(self) -> str:
        """Such as ``f4``; empty where it is not known."""
        return self.dtype.code if isinstance(self.dtype, _Dtype) else ""

    def numbers(self) -> NumberArray:
        """The array itself."""
        content = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        assert self.dtype is not None
        flat = np.frombuffer(content, np.dtype(self.kind).newbyteorder(self.dtype.order))
        shaped = flat.reshape(self.shape, order="F" if self.layout == "F" else "C")
        return shaped if self.axes is None else shaped.transpose(self.axes)


class _Unpickler(pickle.Unpickler):
    """Makes a note of arrays, and refuses every other name.

    What a pickle names is called with what it holds, so names are all that stands between it and any code. Those
    of numpy get stand-ins from here: not even numpy is called before what it will be given has been looked at.
    """

    def __init__(self, content: bytes, what: str) -> None:
        super().__init__(BytesIO(content), encoding="latin1")  # Python 2's strings are bytes
        self.what = what

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name, as it is before or since numpy 2."""
        full = f"{module.replace('numpy.core.', 'numpy._core.')}.{name}"
        stand_ins = {
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "numpy._core.multiarray._reconstruct": self._reconstruct,
            "numpy._core.numeric._frombuffer": _Array.from_buffer,
            "_codecs.encode": self._latin1,
        }
        if full not in stand_ins:
            raise UserError(f"{self.what}: refused: it names {module}.{name}, no numpy array; nothing was run")
        return stand_ins[full]

    def _reconstruct(self, *_: Any) -> _Array:
        return _Array()

    def _latin1(self, text: str, encoding: str) -> bytes:
        """How Python 3 has bytes in an old protocol."""
        if encoding not in ("latin1", "latin-1"):
            raise UserError(f"{self.what}: refused: it names the codec {encoding!r}; nothing was run")
        return text.encode("latin1")


def read_arrays(content: bytes, what: str) -> dict[str, NumberArray]:
    """Arrays of numbers by name from the bytes of a pickle, of Python 2 or 3.

    Raises:
        UserError: they are damaged, name anything but numpy arrays, or hold something else; the message begins
            with ``what``.
    """
    try:
        found = _Unpickler(content, what).load()
        _require_arrays(found, what)
        return {name: array.numbers() for name, array in found.items()}
    except UserError:
        raise
    except Exception as error:  # damaged bytes fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{what}: not a whole pickle of numpy arrays: {reason}; copy the file again") from error


def _require_arrays(found: Any, what: str) -> None:
    if not isinstance(found, dict) or not found:
        raise UserError(f"{what}: holds no arrays by name, but a {type(found).__name__}")
    for name, value in found.items():
        kind = f"numpy array of {value.kind}" if isinstance(value, _Array) else type(value).__name__
        if (
            not isinstance(name, str)
            or not isinstance(value, _Array)
            or not re.fullmatch("[fiu][1248]", value.kind)
        ):
            raise UserError(f"{what}: {name!r} is a {kind}, needed a numpy array of numbers, with a name")

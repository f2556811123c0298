"""Reads numpy arrays from a pickle without running any code that the pickle names."""

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
    """Stand-in for a dtype in a pickle: its code, such as ``f4``, and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order: Any = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stand-in for an array in a pickle, which becomes an array once its parts are known to be numbers."""

    shape: tuple[int, ...] = ()
    dtype: _Dtype | None = None
    fortran = False
    content: bytes | str = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.content = state

    @property
    def kind(self) -> str:
        """Return the code of the dtype, such as ``f4``; empty if it is unknown."""
        return self.dtype.code if isinstance(self.dtype, _Dtype) else ""

    def numbers(self) -> NumberArray:
        """Return the array."""
        content = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        assert self.dtype is not None
        flat = np.frombuffer(content, np.dtype(self.kind).newbyteorder(self.dtype.order))
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Unpickler that makes stand-ins for arrays and refuses every name but those that arrays need.

    A pickle calls the names in it with what it holds, so a name is all that it needs to run any code. Even numpy's
    names get stand-ins: numpy is called only after its arguments have been checked.

    The stand-ins are classes and bound methods, whose attributes a pickle cannot set.
    """

    def __init__(self, content: bytes, label: str) -> None:
        super().__init__(BytesIO(content), encoding="latin1")  # Python 2's strings are bytes
        self.label = label

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name of numpy 1 or 2."""
        full_name = f"{module.replace('numpy.core.', 'numpy._core.')}.{name}"
        stand_ins = {
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "numpy._core.multiarray._reconstruct": self._reconstruct,
            "_codecs.encode": self._encode,
        }
        if full_name not in stand_ins:
            raise UserError(f"{self.label}: refused: it names {module}.{name}, no numpy array; nothing was run")
        return stand_ins[full_name]

    def _reconstruct(self, *_: Any) -> _Array:
        return _Array()

    def _encode(self, text: str, encoding: str) -> bytes:
        """Return the bytes that Python 3 writes as text in an old protocol."""
        if encoding not in ("latin1", "latin-1"):
            raise UserError(f"{self.label}: refused: it names the codec {encoding!r}; nothing was run")
        return text.encode("latin1")


def read_arrays(content: bytes, label: str) -> dict[str, Any]:
    """Return the arrays of numbers in a pickle by name.

    Args:
        content: bytes of a pickle that Python 2 or 3 has written, of protocol 0 to 4.
        label: the file's name; messages begin with it.

    Returns:
        Arrays by name; or, if the pickle holds dictionaries in a dictionary, these and its other values by name.

    Raises:
        UserError: the bytes are damaged, name anything but numpy arrays, or hold something else.
    """
    try:
        return _arrays(_Unpickler(content, label).load(), label)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise exceptions of all types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{label}: not a whole pickle of numpy arrays: {reason}; copy the file again") from error


def _arrays(content: Any, label: str) -> dict[str, Any]:
    if isinstance(content, dict) and any(isinstance(value, dict) for value in content.values()):
        return {key: _arrays(value, label) if isinstance(value, dict) else value for key, value in content.items()}
    _require_arrays(content, label)
    return {name: array.numbers() for name, array in content.items()}


def _require_arrays(content: Any, label: str) -> None:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{label}: holds no arrays by name, but a {type(content).__name__}")
    for name, value in content.items():
        is_array = isinstance(value, _Array)
        if not isinstance(name, str) or not is_array or not re.fullmatch("[fiu][1248]", value.kind):
            kind = f"numpy array of {value.kind}" if is_array else type(value).__name__
            raise UserError(f"{label}: {name!r} is a {kind}, needed a numpy array of numbers, with a name")

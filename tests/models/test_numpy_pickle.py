"""A pickle of numpy arrays is read whoever wrote it; what names anything else is refused before it runs."""

from __future__ import annotations

import builtins
import codecs
import os
import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import python2_pickle

from fer_lightning.core.errors import UserError
from fer_lightning.models.weights.numpy_pickle import read_arrays

ARRAYS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "permuted": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(1, 0, 2),
    "strided": np.arange(10, dtype=np.float32)[::2],
    "big": np.array([1, 2], dtype=">f4"),
    "count": np.array(3),
    "half": np.ones((1, 2), np.float16),
}


class Calls:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return (self.call[0], self.call[1:])


def written() -> dict[str, bytes]:
    files = {f"protocol {n}": pickle.dumps(ARRAYS, n) for n in range(5)}
    old = {
        f"{name}, old names": content.replace(b"numpy._core.", b"numpy.core.")
        for name, content in files.items()
        if name < "protocol 4"  # later ones count their letters
    }
    return {**files, **old, "Python 2": python2_pickle(ARRAYS)}


@pytest.mark.parametrize("kind", written())
def test_arrays_are_read(kind: str) -> None:
    content = written()[kind]
    assert (b"numpy.core." in content) == (kind == "Python 2" or "old" in kind)
    found = read_arrays(content, "FILE")
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def refusal(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read_arrays(content, "FILE")
    assert str(caught.value).startswith("FILE: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hidden", ["value", "name", "inside an object array", "beside"])
def test_code_is_refused_by_name_and_does_not_run(protocol: int, hidden: str, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    calls = {
        f"{os.name}.system": Calls(os.system, f"touch '{trace}'"),
        "eval": Calls(builtins.eval, f"open({str(trace)!r}, 'w')"),
    }
    for name, call in calls.items():
        inside = np.array([call, None], dtype=object)
        value = {
            "value": {"a": call},
            "name": {call: 1},
            "inside an object array": {"a": inside},
            "beside": (call,),
        }
        line = refusal(pickle.dumps(value[hidden], protocol))
        assert f"{name}, no numpy array" in line
        assert "refused: it names" in line
        assert "nothing was run" in line
        assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Calls(codecs.encode, "uryyb", "rot13"), "the codec 'rot13'"),
        (Calls(codecs.encode, "a", "utf-7"), "the codec 'utf-7'"),
        (Calls(codecs.decode, b"a", "latin1"), "_codecs.decode"),
        (OrderedDict(a=np.ones(1)), "collections.OrderedDict"),
        ({"a": np.float32(1)}, "numpy._core.multiarray.scalar"),
        (Calls(np.load, "file"), "numpy.load"),
        (Calls(np._core.numeric._frombuffer, b""), "numpy._core.numeric._frombuffer"),
        (Calls(np.fromfile, "file"), "numpy.fromfile"),
        (Calls(getattr, np.ndarray, "tofile"), "builtin"),
        (np.memmap, "numpy.memmap"),
    ],
)
def test_names_of_anything_else_are_refused(value: Any, named: str) -> None:
    assert named in refusal(pickle.dumps(value, 2))


def test_a_name_inside_an_admitted_one_is_refused() -> None:
    content = pickle.PROTO + b"\x04" + b"\x8c\x05numpy\x8c\x0endarray.tofile" + pickle.STACK_GLOBAL + b"."
    assert "numpy.ndarray.tofile" in refusal(content)


@pytest.mark.parametrize(
    "name", ["numpy ndarray", "numpy dtype", "numpy._core.multiarray _reconstruct", "_codecs encode"]
)
def test_what_is_admitted_cannot_be_altered(name: str) -> None:
    """BUILD sets attributes, unless it is kept from it."""
    attribute = b"(X\x04\x00\x00\x00kindX\x02\x00\x00\x00f4d"
    named = pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"
    assert "not a whole pickle" in refusal(pickle.PROTO + b"\x02" + named + b"N" + attribute + b"\x86b.")
    assert read_arrays(pickle.dumps(ARRAYS, 2), "FILE").keys() == ARRAYS.keys()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "a list"),
        ({}, "no arrays"),
        ({"a": 1.5}, "'a' is a float"),
        ({"a": np.array(["x"])}, "array of U1"),
        ({"a": np.array([None])}, "array of O8"),
        ({"a": np.array([1j])}, "array of c16"),
        ({"a": np.ones(1, [("x", "f4")])}, "array of V4"),
        ({1: np.ones(1)}, "1 is a numpy array of f8"),
    ],
)
def test_anything_but_arrays_of_numbers_by_name_is_refused(value: Any, said: str) -> None:
    assert said in refusal(pickle.dumps(value, 4))


def test_damaged_bytes_are_one_line() -> None:
    whole = pickle.dumps(ARRAYS, 2)
    generator = np.random.default_rng(0)
    for length in range(0, len(whole), 7):
        refusal(whole[:length])
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] = generator.integers(256)
        with suppress(UserError):
            read_arrays(bytes(damaged), "FILE")

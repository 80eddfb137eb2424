"""The reader of other people's pickles: arrays, numbers, strings and plain containers, and no code.

A pickle names the functions that rebuild its objects, so an ordinary reader runs any function that a file names. Here
only the names in ``KNOWN`` are found, and only arrays and their dtypes get a state.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..store import DataError

ARRAY = "numpy.ndarray"  # every pickled array names it; a string, so that a file cannot call it
KINDS = "biufcSUO"  # of numpy's dtypes: truth values, numbers, strings, and arrays of plain objects


def load_restricted(path: Path) -> Any:
    """The contents of a pickle of arrays, numbers, strings and plain containers; protocols 0 to 5.

    Raises:
        DataError: the file is missing or damaged, or asks for any other class or function; nothing of it was run.
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(file, path).load()
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle may raise anything
        what = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} is damaged, cut off or not a pickle of plain arrays ({what}); fetch or write it again"
        ) from error


def _encode(text: str, encoding: str) -> bytes:
    """How protocols 0 to 2 hold bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(code: Any, align: object = False, copy: object = False) -> np.dtype:
    """A new dtype, without fields."""
    dtype = np.dtype(code, copy=True)
    if dtype.kind not in KINDS:
        raise pickle.UnpicklingError(f"an array of {dtype}; only numbers, strings and plain objects are read")
    return dtype


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """An array before its state is set; its shape and type come again with the state."""
    return np.empty(0, dtype=np.int8)


def _from_buffer(
    content: bytes | bytearray, dtype: np.dtype, shape: Any, order: Any, axis_order: Any = None
) -> np.ndarray:
    """How protocol 5 holds arrays."""
    if not isinstance(content, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array whose content is not bytes")
    array = np.frombuffer(content, dtype)
    if order == "K" and axis_order is not None:
        return array.reshape(shape).transpose(axis_order)
    return array.reshape(shape, order="C" if order == "K" else order)


def _check_array(version: int, shape: tuple[int, ...], dtype: np.dtype, fortran: object, content: Any) -> None:
    """Refuses an array whose content does not fill its shape."""
    if any(size < 0 for size in shape):
        raise pickle.UnpicklingError(f"an array of shape {shape}")
    unit = 1 if dtype.kind == "O" else dtype.itemsize
    if not isinstance(content, list if dtype.kind == "O" else bytes) or len(content) != prod(shape) * unit:
        raise pickle.UnpicklingError(f"an array of shape {shape} with other content")


def _check_dtype(
    dtype: np.dtype, version: int, order: object, base: object, names: object, fields: object, *layout: object
) -> None:
    """Refuses a state that would make another dtype than its code names; the byte order may change."""
    own = (dtype.itemsize, dtype.alignment, dtype.flags)
    if not (base is names is fields is None) or layout not in (own, (-1, -1, dtype.flags)):
        raise pickle.UnpicklingError(f"an array of {dtype} with a layout of its own")


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): ARRAY,
    ("numpy", "dtype"): _dtype,
}
for _module in ("builtins", "__builtin__"):
    KNOWN |= {(_module, kind.__name__): kind for kind in (set, frozenset, bytes, bytearray, complex)}
for _module in ("numpy.core", "numpy._core"):
    KNOWN[f"{_module}.multiarray", "_reconstruct"] = _empty_array
    KNOWN[f"{_module}.multiarray", "scalar"] = np.float64(0).__reduce__()[0]
    KNOWN[f"{_module}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle._Unpickler):
    """Python's own reader, in its pure Python form, where the state of objects can be checked."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name; DataError where it is not in ``KNOWN``."""
        if (module, name) not in KNOWN:
            raise DataError(
                f"{self.path} asks for {ascii(f'{module}.{name}')[1:-1]}, which is not an array, number, string or "
                "plain container: refused, nothing of it was run"
            )
        return KNOWN[module, name]

    def load_build(self) -> None:
        """Gives an array or a dtype its state; numpy trusts both blindly, so they are checked here."""
        target, state = self.stack[-2:]  # type: ignore[attr-defined]
        if isinstance(target, np.ndarray):
            _check_array(*state)
        elif isinstance(target, np.dtype):
            _check_dtype(target, *state)
        else:
            raise pickle.UnpicklingError(f"a {type(target).__name__} with attributes of its own")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]

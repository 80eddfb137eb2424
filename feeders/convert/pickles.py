"""The reader of other people's pickles: arrays, numbers, strings and plain containers, and no code.

A pickle names the functions that rebuild its objects, so an ordinary reader runs any function that a file names. Here
only the names in ``KNOWN`` are found, and only arrays and their dtypes get a state. Nor can a small file fill the
memory: lists that name each other again and again are refused. The arrays of a large file can stay in it until they are
needed (``deferred``).
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..store import DataError

PICKLES = (".pkl", ".pickle")  # how files are named
ARRAY = "numpy.ndarray"  # every pickled array names it; a string, so that a file cannot call it
SCALAR: Any = np.float64(0).__reduce__()[0]
KINDS = "biufcSUO"  # of numpy's dtypes: truth values, numbers, strings, and arrays of plain objects
DEFERRED = 256  # bytes; the content of smaller arrays is read at once
DEEPEST = 32  # containers in each other
FEW = 10**6  # items that any file may name, however small it is
LONGEST = 1024  # bits of a whole number


def load_restricted(path: Path, deferred: bool = False) -> Any:
    """The contents of a pickle of arrays, numbers, strings and plain containers; protocols 0 to 5.

    Args:
        deferred: arrays are :class:`StoredArray`, whose numbers stay in the file until numpy asks for them.

    Raises:
        DataError: the file is missing or damaged, asks for any other class or function (nothing of it was run), is
            nested too deeply, or names more items than it has bytes.
    """
    try:
        with open(path, "rb") as file:
            content = PlainUnpickler(file, path, deferred).load()
            count_items(content, max(FEW, os.fstat(file.fileno()).st_size), {})
            return content
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle may raise anything
        what = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} is damaged, cut off or not a pickle of plain arrays ({what}); fetch or write it again"
        ) from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Bytes of a file. ``text``: they are text, which holds the content as protocols 0 to 2 do."""

    path: str
    start: int
    length: int
    text: bool

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            content = file.read(self.length)
        return content.decode("utf-8").encode("latin1") if self.text else content


class StoredArray:
    """An array of a pickle whose numbers are read from the file when numpy asks for them (``numpy.asarray``).

    Attributes:
        shape, dtype: of the array.
    """

    __slots__ = ("content", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.set(np.empty(0).__reduce__()[2])

    def set(self, state: Any) -> None:
        """Takes the state that a pickle gives to an array."""
        version, shape, dtype, fortran, content = state
        if not isinstance(content, _Place):
            _check_array(version, shape, dtype, fortran, content)
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        self.fortran: bool = bool(fortran)
        self.content: bytes | list[Any] | _Place = content

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads the numbers; UnpicklingError where the file does not hold so many."""
        content = self.content.read() if isinstance(self.content, _Place) else self.content
        _check_array(1, self.shape, self.dtype, self.fortran, content)
        array = np.empty(0, dtype=np.int8)
        array.__setstate__((1, self.shape, self.dtype, self.fortran, content))  # type: ignore[arg-type]
        return array if dtype is None else array.astype(dtype)


def _encode(text: Any, encoding: str) -> Any:
    """How protocols 0 to 2 hold bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text if isinstance(text, _Place) else text.encode("latin1")


def _bytes(content: bytes | str = b"", encoding: str = "latin1") -> bytes:
    """``bytes`` of what a pickle gives it, and never of a number, which would be a length."""
    if not isinstance(content, (bytes, str)):
        raise pickle.UnpicklingError(f"bytes of a {type(content).__name__}")
    return content if isinstance(content, bytes) else _encode(content, encoding)


def _bytearray(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(_bytes(content, encoding))


def _scalar(dtype: np.dtype, content: Any) -> Any:
    """A number of numpy's; without content it would be of any length."""
    return SCALAR(dtype, content)


def _dtype(code: Any, align: object = False, copy: object = False) -> np.dtype:
    """A new dtype, without fields."""
    dtype = np.dtype(code, copy=True)
    if dtype.kind not in KINDS:
        raise pickle.UnpicklingError(f"an array of {dtype}; only numbers, strings and plain objects are read")
    return dtype


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """An array before its state is set; its shape and type come again with the state."""
    return np.empty(0, dtype=np.int8)


def _deferred_array(kind: object, shape: object, code: object) -> StoredArray:
    return StoredArray()


def _from_buffer(
    content: bytes | bytearray | _Place, dtype: np.dtype, shape: Any, order: Any, axis_order: Any = None
) -> np.ndarray | StoredArray:
    """How protocol 5 holds arrays."""
    if isinstance(content, _Place) and axis_order is None:
        array = StoredArray()
        array.set((1, tuple(shape), dtype, order == "F", content))
        return array
    if isinstance(content, _Place):
        content = content.read()
    if not isinstance(content, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array whose content is not bytes")
    flat = np.frombuffer(content, dtype)
    if order == "K" and axis_order is not None:
        return flat.reshape(shape).transpose(axis_order)
    return flat.reshape(shape, order="C" if order == "K" else order)


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


def _hashable(keys: Iterable[Any]) -> None:
    """Refuses keys that take for ever to hash: tuples in tuples, which may name each other again and again."""
    if any(isinstance(part, tuple) for key in keys if isinstance(key, tuple) for part in key):
        raise pickle.UnpicklingError("a dict or set with tuples in tuples as keys")


def _fill(load: Callable[[Any], None], keys: slice, reader: Any) -> None:
    """An opcode of the reader that puts what is on its stack into a dict or set."""
    _hashable(reader.stack[keys])
    load(reader)


def _content(bytes_of_length: int, kind: Any, reader: Any) -> None:
    """An opcode that puts bytes or text on the stack, after their length; where the content of a large array is, if
    the reader defers it."""
    length = int.from_bytes(reader.read(bytes_of_length), "little")
    start, stack = reader.file.tell(), reader.stack
    if start + length > reader.size:
        raise pickle.UnpicklingError(f"{length} bytes from byte {start} on, in a file of {reader.size}")
    if reader.deferred and length >= DEFERRED and (kind is not str or (stack and stack[-1] is _encode)):
        reader.file.seek(length, os.SEEK_CUR)
        stack.append(_Place(str(reader.path), start, length, kind is str))
    else:
        content = reader.read(length)
        stack.append(str(content, "utf-8", "surrogatepass") if kind is str else kind(content))


def _set(items: Iterable[Any] = ()) -> set[Any]:
    _hashable(members := list(items))
    return set(members)


def _frozen_set(items: Iterable[Any] = ()) -> frozenset[Any]:
    return frozenset(_set(items))


def _ordered(pairs: Iterable[tuple[Any, Any]] = ()) -> OrderedDict[Any, Any]:
    _hashable(key for key, _ in pairs)
    return OrderedDict(pairs)


def count_items(item: Any, most: int, known: dict[int, int], depth: int = 0) -> int:
    """Items of containers and arrays in each other; what is named twice counts twice, as its reader will see it.

    ``known`` holds the containers counted so far, by id. UnpicklingError for more than ``most`` items, more than
    ``DEEPEST`` containers in each other (also one that holds itself), and whole numbers of more than ``LONGEST`` bits.
    """
    if id(item) in known:
        return known[id(item)]
    if isinstance(item, dict):
        parts = [*item, *item.values()]
    elif isinstance(item, np.ndarray) and item.dtype.kind == "O":
        parts = item.ravel().tolist()
    elif isinstance(item, StoredArray) and isinstance(item.content, list):
        parts = item.content
    elif isinstance(item, (list, tuple, set, frozenset)):
        parts = list(item)
    else:
        if isinstance(item, int) and item.bit_length() > LONGEST:
            raise pickle.UnpicklingError(f"a whole number of {item.bit_length()} bits")
        return prod(item.shape) if isinstance(item, (np.ndarray, StoredArray)) else 1
    if depth == DEEPEST:
        raise pickle.UnpicklingError(f"more than {DEEPEST} containers in each other")
    number = 1 + sum(count_items(part, most, known, depth + 1) for part in parts)
    if number > most:
        raise pickle.UnpicklingError(f"lists that name each other again and again, to more than {most} items")
    known[id(item)] = number
    return number


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): ARRAY,
    ("numpy", "dtype"): _dtype,
}
for _module in ("builtins", "__builtin__"):
    KNOWN |= {(_module, "set"): _set, (_module, "frozenset"): _frozen_set}
    KNOWN |= {(_module, "bytes"): _bytes, (_module, "bytearray"): _bytearray, (_module, "complex"): complex}
for _module in ("numpy.core", "numpy._core"):
    KNOWN[f"{_module}.multiarray", "_reconstruct"] = _empty_array
    KNOWN[f"{_module}.multiarray", "scalar"] = _scalar
    KNOWN[f"{_module}.numeric", "_frombuffer"] = _from_buffer


# Opcodes that fill a dict or set, and which items of the stack are its keys.
KEYS = {pickle.SETITEM: slice(-2, -1), pickle.SETITEMS: slice(None, None, 2), pickle.DICT: slice(None, None, 2)}
KEYS |= {pickle.ADDITEMS: slice(None), pickle.FROZENSET: slice(None)}


class PlainUnpickler(pickle._Unpickler):
    """Python's own reader, in its pure Python form, where the state of objects can be checked."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, path: Path, deferred: bool) -> None:
        super().__init__(file)
        self.file = file
        self.path = path
        self.deferred = deferred
        start = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(start)

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name; DataError where it is not in ``KNOWN``."""
        if (module, name) not in KNOWN:
            raise DataError(
                f"{self.path} asks for {ascii(f'{module}.{name}')[1:-1]}, which is not an array, number, string or "
                "plain container: refused, nothing of it was run"
            )
        found = KNOWN[module, name]
        return _deferred_array if found is _empty_array and self.deferred else found

    def load_build(self) -> None:
        """Gives an array or a dtype its state; numpy trusts both blindly, so they are checked here."""
        target, state = self.stack[-2:]  # type: ignore[attr-defined]
        if isinstance(target, StoredArray):
            target.set(self.stack.pop())  # type: ignore[attr-defined]
            return
        if isinstance(target, np.ndarray):
            _check_array(*state)
        elif isinstance(target, np.dtype):
            _check_dtype(target, *state)
        else:
            raise pickle.UnpicklingError(f"a {type(target).__name__} with attributes of its own")
        super().load_build()  # type: ignore[misc]

    def load_frame(self) -> None:
        """Frames only say how much to read at once; without them the file's position is that of the next opcode."""
        self.read(8)  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]
    dispatch[pickle.FRAME[0]] = load_frame  # type: ignore[assignment]
    dispatch[pickle.BINBYTES[0]] = partial(_content, 4, bytes)
    dispatch[pickle.BINBYTES8[0]] = partial(_content, 8, bytes)
    dispatch[pickle.BYTEARRAY8[0]] = partial(_content, 8, bytearray)
    dispatch[pickle.BINUNICODE[0]] = partial(_content, 4, str)
    for _code, _keys in KEYS.items():
        dispatch[_code[0]] = partial(_fill, dispatch[_code[0]], _keys)

"""MATLAB's files of version 5 to 7: arrays of numbers, texts, structs and cell arrays, and nothing else.

A reader of its own: scipy's dies of damaged files instead of raising an error, and takes whatever memory they ask for.
The layout of the files is described in MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from .prepare import Unusable

LARGEST = 2**30  # bytes that a file may unpack to
DEEPEST = 8  # structs and cell arrays in each other
HEADER = 128  # bytes
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # element types
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4  # classes of a matrix
NUMERIC = range(6, 16)
COMPLEX = 0x800  # a flag
Element = tuple[int, memoryview]  # type, contents


def load_mat(content: bytes) -> dict[str, Any]:
    """The variables of a file by name: arrays, texts (str), structs (dict), cell arrays (list); None for others.

    Complex numbers, sparse arrays, objects and functions are others, and arrays of several structs.

    Raises:
        Unusable: empty, cut off, damaged, of another version, nested too deeply, or too large.
    """
    if not content:
        raise Unusable("empty: 0 bytes")
    if content.startswith(b"MATLAB 7.3") or b"\x89HDF" in (content[:4], content[512:516]):
        raise Unusable("MATLAB 7.3: this version of the format is not read; save the file again with save(.., '-v7')")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER], "")
    if not order:
        raise Unusable("damaged: no MATLAB file of version 5 to 7")
    left, values = LARGEST, {}
    for kind, data in _elements(memoryview(content)[HEADER:], order):
        if kind == COMPRESSED:
            plain = _unpack(data, left)
            left -= len(plain)
            kind, data = next(_elements(memoryview(plain), order), (0, data))
        if kind != MATRIX:
            raise Unusable(f"damaged: a variable of type {kind}")
        name, value = _matrix(data, order, 0)
        values[name] = value
    return values


def _unpack(content: memoryview, most: int) -> bytes:
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(content, max(most, 1))
    except zlib.error as error:
        raise Unusable(f"damaged: it cannot be unpacked ({error})") from error
    if reader.unconsumed_tail:
        raise Unusable(f"too large: it unpacks to more than {LARGEST >> 20} MB")
    return plain


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    """The elements that lie one after the other."""
    place = 0
    while place < len(content):
        if len(content) - place < 8:
            raise Unusable("damaged: it is cut off")
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:  # a small one: its contents lie where the others have their size
            kind, size = kind & 0xFFFF, kind >> 16
            yield kind, content[place + 4 : place + 4 + min(size, 4)]
            place += 8
            continue
        if place + 8 + size > len(content):
            raise Unusable(f"damaged: it is cut off, {size} bytes announced, {len(content) - place - 8} there")
        yield kind, content[place + 8 : place + 8 + size]
        place += 8 + size + (-size % 8 if kind != COMPRESSED else 0)


def _matrix(content: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of a matrix."""
    if depth > DEEPEST:
        raise Unusable(f"damaged: more than {DEEPEST} structs and cells in each other")
    if not len(content):
        return "", np.zeros((0, 0))
    parts = _elements(content, order)
    flags = _numbers(_next(parts), order)
    dims = tuple(map(int, _numbers(_next(parts), order)))
    name = bytes(_next(parts)[1]).decode("latin-1")
    if not len(flags) or len(dims) < 2 or min(dims) < 0:
        raise Unusable(f"damaged: a variable of shape {dims[:8]}")
    kind, is_complex = int(flags[0]) & 0xFF, bool(int(flags[0]) & COMPLEX)
    if kind == CELL:
        return name, [_inner(part, order, depth) for part in parts]
    if kind == STRUCT and prod(dims) == 1:
        width = int(_numbers(_next(parts), order)[:1].sum())
        fields = bytes(_next(parts)[1])
        names = [
            fields[at : at + width].partition(b"\0")[0].decode("latin-1") for at in range(0, len(fields), width or 1)
        ]
        return name, dict(zip(names, (_inner(part, order, depth) for part in parts), strict=False))
    if kind == CHAR:
        return name, _text(_next(parts), order) if dims[0] <= 1 else None
    if kind not in NUMERIC or is_complex:
        return name, None
    values = _numbers(_next(parts), order)
    if len(values) != prod(dims):
        raise Unusable(f"damaged: {name} of shape {dims[:8]} with {len(values)} numbers")
    return name, values.reshape(dims, order="F")


def _next(parts: Iterator[Element]) -> Element:
    part = next(parts, None)
    if part is None:
        raise Unusable("damaged: it is cut off")
    return part


def _inner(part: Element, order: str, depth: int) -> Any:
    """A matrix in a struct or cell array."""
    if part[0] != MATRIX:
        raise Unusable(f"damaged: a field of type {part[0]}")
    return _matrix(part[1], order, depth + 1)[1]


def _numbers(part: Element, order: str) -> np.ndarray:
    kind, data = part
    if kind not in NUMBERS:
        raise Unusable(f"damaged: numbers of type {kind}")
    dtype = np.dtype(order + NUMBERS[kind])
    return np.frombuffer(data, dtype, len(data) // dtype.itemsize)


def _text(part: Element, order: str) -> str | None:
    kind, data = part
    encoding = TEXTS.get(kind)
    if encoding == "utf-16":
        encoding = "utf-16-le" if order == "<" else "utf-16-be"
    return None if encoding is None else bytes(data).decode(encoding, "replace")

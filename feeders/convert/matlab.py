"""MATLAB's ``.mat`` files up to version 7: one array of joints, or x and y of Penn Action's kind.

* An array of numbers, such as ``d_skel`` (V, 3, T) of UTD-MHAD, also one level down in a struct, or a cell array of
  frames of one shape. Its axes are found by their sizes (feeders.convert.axes).
* ``x`` and ``y`` (and ``z``), (T, V) each, with ``visibility`` 0 or 1 and perhaps ``action``, ``train`` (1, else test),
  ``pose`` (the side that the camera sees) and ``dimensions`` (height, width, frames). In Penn Action, joints that are
  not visible lie at (1, 1) where nobody marked them; they are not seen. Elsewhere the annotators guessed: the bones to
  such joints have the usual lengths, only more widely spread. These places stay, with the score 0.5.

Shapes: T frames, V joints.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.io import loadmat

from .axes import GUESSED, common_axes, recording_of
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording

LARGEST = 2**30  # bytes that a file may unpack to
DEEPEST = 8  # arrays in each other
HEADER = 128  # bytes
MATRIX, COMPRESSED, LAST = 14, 15, 18  # types of elements
COORDINATES = ("x", "y", "z")
SCORES = ("visibility", "score", "scores", "confidence", "conf")
NAMES = ("d_skel", "skel", "skeleton", "joints", "positions", "keypoints", "pose3d", "poses", "data")  # usual ones


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """The take of a ``.mat`` file; Unusable where it holds no skeleton, or several arrays that may be it."""
    if len(sources) != 1:
        raise Unusable(f"several files: {len(sources)} .mat files for one take")
    values = load(sources[0].read())
    values |= {key: inner for name, value in list(values.items()) for key, inner in _inside(name, value).items()}
    if {"x", "y"} <= values.keys() and _is_table(values["x"]) and np.shape(values["x"]) == np.shape(values["y"]):
        return _from_coordinates(values, hints)
    fitting = {
        name: array
        for name, array in values.items()
        if _is_table(array) and (hints.axes or common_axes([array.shape], hints.num_joints, hints.dims))
    }
    known = [name for name in NAMES if name in fitting]
    deep = [name for name, array in fitting.items() if array.ndim > 2]
    chosen = known[:1] or (deep if len(deep) == 1 else list(fitting))
    if len(chosen) != 1:
        there = ", ".join(f"{name} {_described(value)}" for name, value in list(values.items())[:8])
        what = "several arrays" if chosen else "no skeleton"
        raise Unusable(f"{what}: it holds {there or 'nothing'}; wanted one array of joints")
    return recording_of(fitting[chosen[0]], hints)


def load(content: bytes) -> dict[str, Any]:
    """The variables of a ``.mat`` file by name.

    Raises:
        Unusable: empty, damaged, of version 7.3, or nested too deeply.
    """
    if not content:
        raise Unusable("empty: 0 bytes")
    if content.startswith(b"MATLAB 7.3") or content[:4] == b"\x89HDF" or content[512:516] == b"\x89HDF":
        raise Unusable("MATLAB 7.3: this version of the format is not read; save the file again with save(.., '-v7')")
    if content.startswith(b"MATLAB"):
        _check_elements(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two variables of one name: the last one counts
            found = loadmat(io.BytesIO(content))
    except Exception as error:  # of a damaged file scipy may raise anything
        raise Unusable(f"damaged: it is cut off or no MATLAB file ({error})") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _check_elements(content: bytes) -> None:
    """Unusable where the elements are nested so deeply, or unpack to so much, that scipy's reader would die of it."""
    order = ">" if content[126:128] == b"MI" else "<"
    # parts that lie in each other: (bytes, where the next element of this part begins, where it ends, depth)
    waiting = [(content, HEADER, len(content), 0)]
    unpacked = 0
    while waiting:
        part, place, end, depth = waiting.pop()
        if place + 8 > end:
            continue
        kind, size = struct.unpack_from(f"{order}II", part, place)
        if kind >> 16:  # a small element: type and size in the first four bytes, numbers in the next
            waiting.append((part, place + 8, end, depth))
            continue
        if not 0 < kind <= LAST:
            continue  # no element: scipy's reader ends here as well
        if depth > DEEPEST:
            raise Unusable(f"damaged: more than {DEEPEST} arrays in each other")
        inner = min(place + 8 + size, end)
        waiting.append((part, place + 8 + size + (-size % 8 if kind != COMPRESSED else 0), end, depth))
        if kind == COMPRESSED:
            plain = _unpack(part[place + 8 : inner], LARGEST - unpacked)
            unpacked += len(plain)
            waiting.append((plain, 0, len(plain), depth))
        elif kind == MATRIX:
            waiting.append((part, place + 8, inner, depth + 1))


def _unpack(content: bytes, most: int) -> bytes:
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(content, max(most, 1))
    except zlib.error as error:
        raise Unusable(f"damaged: it cannot be unpacked ({error})") from error
    if reader.unconsumed_tail:
        raise Unusable(f"too large: it unpacks to more than {LARGEST >> 20} MB")
    return plain


def _inside(name: str, value: Any) -> dict[str, Any]:
    """What lies one level down: the fields of a struct, or the frames in a cell array as one array."""
    if not isinstance(value, np.ndarray) or not value.size:
        return {}
    if value.dtype.names and value.size == 1:
        return {field: value[field].item() for field in value.dtype.names}
    if value.dtype == object and not value.dtype.names:
        frames = value.ravel().tolist()
        if all(_is_table(frame) and frame.shape == frames[0].shape for frame in frames):
            return {name: np.stack(frames)}
    return {}


def _is_table(value: Any) -> bool:
    """Numbers with at least two axes that are no single number or text."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim > 1 and value.size > 1


def _described(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return f"struct {value.shape}" if value.dtype.names else f"{value.dtype} {value.shape}"


def _from_coordinates(values: Mapping[str, Any], hints: Hints) -> Recording:
    """A take whose coordinates are arrays of their own."""
    parts = [np.asarray(values[name], np.float64) for name in COORDINATES if _is_table(values.get(name))]
    dims = len(parts)
    score = next((values[name] for name in SCORES if name in values and name not in COORDINATES), None)
    if score is not None:
        score = np.asarray(score, np.float64)
        guessed = score == 0
        nowhere = guessed & np.all([part <= 1 for part in parts], axis=0)
        parts = [np.where(nowhere, 0, part) for part in parts]
        parts.append(np.where(guessed & ~nowhere, GUESSED, np.where(nowhere, 0, score)))
    if len({part.shape for part in parts}) > 1:
        raise Unusable(f"other joints: arrays of shapes {', '.join(str(part.shape) for part in parts)}")
    array = np.stack(parts, axis=-1)
    facts = {}
    if (label := _text(values.get("action"))) is not None:
        facts["label"] = label
    if (view := _text(values.get("pose"))) is not None:
        facts["view"] = view
    if _is_number(values.get("train")):
        facts["split"] = "train" if values["train"].item() == 1 else "test"
    size = np.ravel(values.get("dimensions", ()))
    known = dims == 2 and len(size) >= 2 and size.dtype.kind in "fiu" and min(size[:2]) > 0
    return recording_of(
        array, Hints(array.shape[1], dims, "TVC"), facts=facts, size=(int(size[0]), int(size[1])) if known else None
    )


def _text(value: Any) -> str | None:
    """A MATLAB text, or None."""
    return str(value.item()) if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size == 1


FORMS = (Form("MATLAB", lambda name, start: start.startswith(b"MATLAB ") or name.lower().endswith(".mat"), read),)

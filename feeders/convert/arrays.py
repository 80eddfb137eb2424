"""Arrays of numpy, ``.npy`` and ``.npz``: one take a file, or a folder of one flat vector a frame."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence

import numpy as np

from ..npy import read_header
from ..zips import open_zip
from .axes import recording_of
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording

LARGEST = 2**30  # bytes of a take
JOINTS = ("keypoints", "keypoint", "skeleton", "skeletons", "skel", "joints", "poses", "pose", "landmarks", "data", "x")
SCORES = ("keypoint_scores", "keypoint_score", "scores", "score", "confidence", "visibility")
LABELS = ("label", "class", "action")


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """The array of one take, or of its frames; Unusable where there is none, or in which order it is does not show."""
    if len(sources) > 1:
        frames = [_array(source) for source in sources]
        shapes = {frame.shape for frame in frames}
        if len(shapes) > 1:
            raise Unusable(f"other joints: frames of shapes {', '.join(map(str, sorted(shapes)[:3]))} in one take")
        return recording_of(np.stack(frames), hints)
    arrays = _arrays(sources[0])
    name = _joints(arrays)
    scores = next((arrays[key] for key in SCORES if key in arrays and key != name), None)
    array = arrays[name]
    if scores is not None and array.ndim == scores.ndim + 1:
        array = np.concatenate([array, scores[..., None]], axis=-1)
    label = next((str(arrays[key].item()) for key in LABELS if key in arrays and arrays[key].size == 1), None)
    return recording_of(array, hints, facts={"label": label} if label else {})


def _joints(arrays: dict[str, np.ndarray]) -> str:
    """The name of the array of joints: a usual one, or the only one that can be it."""
    if not arrays:
        raise Unusable("no numbers: it holds no array")
    large = {name: array for name, array in arrays.items() if array.ndim >= 2 and array.dtype.kind in "fiu"}
    known = [name for name in JOINTS if name in large]
    if not known and len(large) != 1 and len(arrays) > 1:
        there = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise Unusable(f"other arrays: {there}; name the one of the joints keypoints")
    return known[0] if known else next(iter(large or arrays))


def _array(source: Source) -> np.ndarray:
    arrays = _arrays(source)
    return arrays[_joints(arrays)]


def _arrays(source: Source) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of an ``.npy`` has the name "keypoints"."""
    content = source.read()
    if not content:
        raise Unusable("empty: the file has 0 bytes")
    try:
        if content[:2] != b"PK":
            return {"keypoints": _loaded(content)}
        with open_zip(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if sum(member.file_size for member in members) > LARGEST:
                raise Unusable(f"too large: it unpacks to more than {LARGEST >> 20} MB")
            read = {member.filename[:-4]: archive.open(member).read(member.file_size) for member in members}
    except (OSError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise Unusable(f"damaged: {error}") from error
    return {name: _loaded(member) for name, member in read.items()}


def _loaded(content: bytes) -> np.ndarray:
    """An array of numbers or text that the bytes hold in full."""
    file = io.BytesIO(content)
    try:
        shape, by_column, dtype = read_header(file)
    except ValueError as error:
        raise Unusable(f"damaged: no array: {error}") from error
    if dtype.kind not in "fiubU":
        raise Unusable(f"no numbers: an array of {dtype}")
    held = content[file.tell() :]
    if math.prod(shape) * dtype.itemsize > len(held):
        raise Unusable(f"damaged: an array of shape {shape} in {len(held)} bytes")
    array = np.frombuffer(held, dtype, math.prod(shape))
    return array.reshape(shape, order="F" if by_column else "C")


def _is_frame(source: Source) -> bool:
    return _array(source).ndim == 1


def _recognises(name: str, head: bytes) -> bool:
    return head.startswith(b"\x93NUMPY") or name.lower().endswith((".npy", ".npz"))


ARRAYS = Form("numpy", _recognises, read, _is_frame, arrays=True)

"""MATLAB's ``.mat`` files of version 5 to 7: one array of joints, or x and y of Penn Action's kind.

* An array of numbers, such as ``d_skel`` (V, 3, T) of UTD-MHAD, also one level down in a struct, or a cell array of
  frames of one shape. Its axes are found by their sizes (feeders.convert.axes).
* ``x`` and ``y`` (and ``z``), (T, V) each, with ``visibility`` 0 or 1 and perhaps ``action``, ``train`` (1, else test),
  ``pose`` (the side that the camera sees) and ``dimensions`` (height, width, frames). In Penn Action, joints that are
  not visible lie at (1, 1) where nobody marked them; they are not seen. Elsewhere the annotators guessed: the bones to
  such joints have the usual lengths, only more widely spread. These places stay, with the score 0.5.

Shapes: T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .axes import GUESSED, common_axes, recording_of
from .mat_file import load_mat
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording

COORDINATES = ("x", "y", "z")
SCORES = ("visibility", "score", "scores", "confidence", "conf")
FACTS = {"label": "action", "view": "pose"}
NAMES = ("d_skel", "skel", "skeleton", "joints", "positions", "keypoints", "pose3d", "poses", "data")  # usual ones


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """The take of a ``.mat`` file; Unusable where it holds no skeleton, or several arrays that may be it."""
    if len(sources) != 1:
        raise Unusable(f"several files: {len(sources)} .mat files for one take")
    values = load_mat(sources[0].read())
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


def _inside(name: str, value: Any) -> dict[str, Any]:
    """What lies one level down: the fields of a struct, or the frames in a cell array as one array."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(map(_is_table, value)) and len({part.shape for part in value}) == 1:
        return {name: np.stack(value)}
    return {}


def _is_table(value: Any) -> bool:
    """Numbers with at least two axes that are no single number or text."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim > 1 and value.size > 1


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    kinds = {"dict": "(a struct)", "list": "(cells)", "str": "(a text)"}
    return kinds.get(type(value).__name__, "(something else)")


def _from_coordinates(values: Mapping[str, Any], hints: Hints) -> Recording:
    """A take whose coordinates are arrays of their own."""
    parts = [np.asarray(values[name], np.float64) for name in COORDINATES if _is_table(values.get(name))]
    dims = len(parts)
    score = next((values[name] for name in SCORES if _is_table(values.get(name))), None)
    if score is not None and score.shape == parts[0].shape:
        score = np.asarray(score, np.float64)
        guessed = score == 0
        nowhere = guessed & np.all([part <= 1 for part in parts], axis=0)
        parts = [np.where(nowhere, 0, part) for part in parts]
        parts.append(np.where(guessed & ~nowhere, GUESSED, np.where(nowhere, 0, score)))
    if len({part.shape for part in parts}) > 1:
        raise Unusable(f"other joints: arrays of shapes {', '.join(str(part.shape) for part in parts)}")
    array = np.stack(parts, axis=-1)
    facts = {fact: values[name] for fact, name in FACTS.items() if isinstance(values.get(name), str) and values[name]}
    if _is_number(values.get("train")):
        facts["split"] = "train" if values["train"].item() == 1 else "test"
    size = np.ravel(values.get("dimensions", ()))
    known = dims == 2 and len(size) >= 2 and size.dtype.kind in "fiu" and min(size[:2]) > 0
    return recording_of(
        array, Hints(array.shape[1], dims, "TVC"), facts=facts, size=(int(size[0]), int(size[1])) if known else None
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size == 1


def _recognises(name: str, start: bytes) -> bool:
    return start.startswith(b"MATLAB ") or name.lower().endswith(".mat")


FORMS = (Form("MATLAB", _recognises, read, arrays=True),)

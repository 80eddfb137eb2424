"""Which axis of an array is which, found by its shape.

Axes are named by letters, outermost first: T frames, M people, V joints, C coordinates, N something of size 1; F is V
and C in one (x0, y0, z0, x1, ..., perhaps one person after the other), R is T and V in one (all joints of the first
frame, then of the second, ...). C is 2 or 3 coordinates, perhaps with a score after them.

Shapes: L frames, M people, V joints, D = 2 or 3 coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .prepare import Unusable
from .recording import Hints, Recording

# The usual orders, by the number of axes; the more frequent ones first.
ORDERS = {
    1: ("F",),
    2: ("TF", "RC", "FT"),
    3: ("TVC", "CTV", "TCV", "VCT"),
    4: ("TMVC", "MTVC", "CTVM"),
    5: ("NCTVM",),
}
WHOLE = "TMVC"
JOINTS = range(5, 601)  # where nobody said how many joints or which axes
PEOPLE = {"CTVM": 2, "NCTVM": 2}  # most people where nobody said which axes; else
MANY = 10
LARGEST = float(np.finfo(np.float32).max)  # that a store holds
GUESSED = 0.5  # score of a joint that was not seen, whose place the recorder or an annotator guessed
PIXELS = 10.0  # x and y above it, beside a third number in 0 .. 1, are pixels beside a score
# MediaPipe's holistic landmarks, a vector a frame: pose (x, y, z, visibility), perhaps the face, both hands (x, y, z).
POSE, FACE, HAND = (33, 4), (468, 3), (21, 3)
HOLISTIC = {258: (POSE, HAND, HAND), 1662: (POSE, FACE, HAND, HAND)}
POSE_AND_HANDS = 75


def orient(array: Any, hints: Hints) -> np.ndarray:
    """An array in any of the usual orders as (L, M, V, C) float64, C = D, or D + 1 with a score at the end.

    MediaPipe's holistic vectors (258 or 1,662 numbers a frame) give the 33 joints of the pose, or, where
    ``hints.num_joints`` is 75, these and both hands.

    Raises:
        Unusable: no numbers, or a shape that fits none of the usual orders, or more than one.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise Unusable(f"no numbers: an array of {array.dtype}")
    if not array.size:
        raise Unusable(f"no numbers: an array of shape {array.shape}")
    if hints.axes is None:
        array = _from_holistic(array, hints)
    order = hints.axes or _order(array.shape, hints)
    found = sizes(array.shape, order, hints, usual=hints.axes is None)
    if found is None:
        raise Unusable(f"other axes: shape {array.shape} is not {order}{_wanted(hints)}")
    if "V" not in found or "C" not in found:
        number = f"{found['F']} numbers a frame" if "F" in found else f"{found['R']} rows"
        raise Unusable(f"unknown joints: {number}, and nothing says how many joints that is; name their layout")
    axes = "".join({"F": "MVC", "R": "TV"}.get(axis, axis) for axis in order)
    with np.errstate(invalid="ignore"):  # of signalling NaN
        array = array.reshape([found[axis] for axis in axes]).astype(np.float64)
    array = array.transpose([axes.index(axis) for axis in "NTMVC" if axis in axes])
    return array.reshape([found.get(axis, 1) for axis in WHOLE])


def sizes(shape: Sequence[int], order: str, hints: Hints, usual: bool = True) -> dict[str, int] | None:
    """Axis -> size of a shape that is read in an order; None where it cannot be read so.

    Args:
        usual: numbers of joints and people that nobody said must be usual ones.

    Returns:
        the letters of the order, and M, V, C and T where F or R says them.
    """
    if len(order) != len(shape) or len(set(order)) < len(order) or not set(order) <= set("NMTVCFR"):
        return None
    found = dict(zip(order, map(int, shape), strict=True))
    joints, dims = hints.num_joints, hints.dims
    if "F" in found and (joints or dims):
        coordinates = found["F"] // joints if joints else dims or 1
        people = coordinates // dims if joints and dims and coordinates > dims + 1 else 1
        found |= {"M": people, "C": coordinates // people, "V": joints or found["F"] // coordinates}
        if people * found["V"] * found["C"] != found["F"]:
            return None
    if "R" in found and joints:
        found |= {"V": joints, "T": found["R"] // joints}
        if found["T"] * joints != found["R"]:
            return None
    right = min(found.values()) > 0 and found.get("N", 1) == 1
    right &= found.get("C", 3) in ((dims, dims + 1) if dims else (2, 3, 4))
    right &= not joints or found.get("V", joints) == joints
    if usual:
        right &= found.get("M", 1) <= PEOPLE.get(order, MANY) and (joints is not None or found.get("V", 5) in JOINTS)
        right &= found.get("F", 10) >= 10 and (order != "FT" or found["T"] > 4)
    return found if right else None


def common_axes(shapes: Iterable[Sequence[int]], num_joints: int | None = None, dims: int | None = None) -> list[str]:
    """The orders that fit the arrays of many takes at once, the more frequent ones first; empty where none does.

    The numbers of joints and coordinates are the same in all takes; frames and people vary.

    Args:
        shapes: of the arrays.
        num_joints, dims: V and D, where they are known.
    """
    known, hints = {tuple(shape) for shape in shapes}, Hints(num_joints, dims)
    fitting = []
    for order in ORDERS.get(len(next(iter(known), ())), ()):
        found = [sizes(shape, order, hints) for shape in known]
        alike = {tuple(map(one.get, "VCF")) for one in found if one is not None}
        if None not in found and len(alike) == 1:
            fitting.append(order)
    return fitting


def recording_of(array: Any, hints: Hints, **more: Any) -> Recording:
    """An array in any of the usual orders as a take.

    The last of D + 1 numbers is the score. Where D is not known, three numbers are x, y, z, except that x and y in
    pixels beside a third number in 0 .. 1 are x, y and a score. A person whose coordinates are all 0 is absent. A joint
    is not seen where a coordinate is NaN, where x = y = 0, or where x, y, z and the score are 0. Depth cameras give
    joints that they infer x, y, z beside a score of 0: these stay, with the score 0.5.

    Args:
        more: further attributes of the Recording.

    Raises:
        Unusable: see :func:`orient`; infinite or far too large numbers; nobody in any frame.
    """
    frames = orient(array, hints)
    large = np.abs(frames) > LARGEST
    if large.any():
        first = int(np.flatnonzero(large.any(axis=(1, 2, 3)))[0])
        what = "infinite" if np.isinf(frames).any() else "far too large"
        raise Unusable(f"damaged: {what} numbers, first in frame {first}")
    dims = hints.dims or _dims(frames)
    score = np.clip(np.nan_to_num(frames[..., dims]), 0, 1) if frames.shape[3] > dims else None
    frames = frames[..., :dims]
    zero = np.all(frames == 0, axis=3)
    unseen = np.isnan(frames).any(axis=3) | np.all(zero, axis=2, keepdims=True)
    if dims == 2:
        unseen |= zero
    elif score is not None:
        unseen |= zero & (score == 0)
        score[(score == 0) & ~unseen] = GUESSED
    if unseen.all():
        raise Unusable(f"no people: in none of {len(frames)} frames")
    return Recording(np.where(unseen[..., None], np.nan, frames), score, **more)


def _dims(frames: np.ndarray) -> int:
    """2 or 3: how many of the C numbers are coordinates, where nobody said it."""
    number = frames.shape[3]
    if number != 3 or np.isnan(frames).all():
        return min(number, 3)
    low, high = np.nanmin(frames, axis=(0, 1, 2)), np.nanmax(frames, axis=(0, 1, 2))
    return 2 if min(high[:2]) > PIXELS and min(low[2], 0) >= 0 and high[2] <= 1 else 3


def _order(shape: tuple[int, ...], hints: Hints) -> str:
    """The only usual order that fits a shape."""
    fitting = common_axes([shape], hints.num_joints, hints.dims)
    if not fitting:
        orders = ", ".join(ORDERS.get(len(shape), ())) or "nothing"
        raise Unusable(f"other axes: shape {shape} is none of {orders}{_wanted(hints)}; say what it is with --axes")
    if len(fitting) > 1:
        readings = " or ".join(f"{order} ({_told(sizes(shape, order, hints) or {})})" for order in fitting)
        raise Unusable(f"ambiguous axes: shape {shape} can be {readings}; say which with --axes {fitting[0]}")
    return fitting[0]


def _told(found: Mapping[str, int]) -> str:
    names = {"T": "frames", "M": "people", "V": "joints", "C": "numbers each", "F": "numbers a frame", "R": "rows"}
    known = names.keys() - ({"F"} if "V" in found else set()) - ({"R"} if "T" in found else set())
    return ", ".join(f"{found[axis]} {name}" for axis, name in names.items() if axis in found and axis in known)


def _wanted(hints: Hints) -> str:
    """What was known beforehand, as the end of a sentence."""
    known = [f"{hints.num_joints} joints"] if hints.num_joints else []
    known += [f"{hints.dims} coordinates"] if hints.dims else []
    return f" with {' and '.join(known)}" if known else ""


def _from_holistic(array: np.ndarray, hints: Hints) -> np.ndarray:
    """MediaPipe's holistic vectors as (T, V, C); any other array as it is."""
    number = array.shape[-1] if array.ndim in (1, 2) else 0
    if number not in HOLISTIC or hints.num_joints not in (None, POSE[0], POSE_AND_HANDS):
        return array
    rows, parts, place = array.reshape(-1, number), [], 0
    for part in HOLISTIC[number]:
        parts.append(rows[:, place : place + part[0] * part[1]].reshape(-1, *part))
        place += part[0] * part[1]
    pose, left, right = parts[0], parts[-2], parts[-1]
    return np.concatenate([pose[..., :3], left, right], axis=1) if hints.num_joints == POSE_AND_HANDS else pose

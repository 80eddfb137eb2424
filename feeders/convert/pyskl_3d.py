"""PYSKL's preparation of 3D skeletons: which person comes first, where the origin lies, how the body is turned.

See docs/method.md, "PYSKL's 3D skeletons".

Shapes: M people, T frames of the file, L frames that stay, V joints.
"""

from __future__ import annotations

import numpy as np

from .prepare import Unusable

CENTRES = {25: 1}  # V -> the joint at the origin; else the last one
# (from joint, to joint) -> where that points in the first frame, in the order in which the body is turned.
AXES = {(0, 1): (0.0, 0.0, 1.0), (4, 8): (1.0, 0.0, 0.0)}
EMPTY = 1e-8  # coordinates of at most this size are those of no person
NO_TURN = 1e-6  # sine times length: vectors that lie along their axis already, or against it, are left as they are


def prepare_skeleton(keypoints: np.ndarray, people: int) -> np.ndarray:
    """(M, T, V, 3) -> (L, people, V, 3) float32, zero where there is no person.

    The person with the most frames becomes the first one, and only its frames stay. All joints that are not 0 are moved
    and turned together, by the first person's first frame.

    Raises:
        Unusable: no person in any frame.
    """
    x = keypoints.astype(np.float64)
    there = np.any(np.abs(x) > EMPTY, axis=(2, 3))
    order = np.argsort(-there.sum(axis=1), kind="stable")[:people]
    x = x[order][:, there[order[0]]]
    if not x.shape[1]:
        raise Unusable(f"no people: all {keypoints.shape[1]} frames are 0")
    body = (x != 0).any(axis=-1, keepdims=True)
    x = (x - x[0, 0, CENTRES.get(x.shape[2], -1)]) * body
    for (start, end), axis in AXES.items():
        if end < x.shape[2]:
            x = x @ _turn(x[0, 0, end] - x[0, 0, start], np.array(axis)).T
    frames = np.zeros((x.shape[1], people, *x.shape[2:]), np.float32)
    frames[:, : len(x)] = x.swapaxes(0, 1)
    return frames


def _turn(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(3, 3): the smallest rotation that makes the vector point along a unit axis."""
    across = np.cross(vector, axis)
    sine, cosine = np.linalg.norm(across), vector @ axis
    if sine < NO_TURN:
        return np.eye(3)
    x, y, z = across / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    length = np.hypot(sine, cosine)
    return np.eye(3) + sine / length * skew + (1 - cosine / length) * skew @ skew

"""Joints that are not seen: which they are, and where they may be.

Shapes: L frames, M people, V joints, C channels: x, y, z, or x, y, score (dims 2); D = 2 or 3 coordinates (dims).
"""

from __future__ import annotations

import numpy as np

from shapmix.skeleton import SkeletonLayout


def seen_joints(frames: np.ndarray, dims: int = 3) -> np.ndarray:
    """(L, M, V) bool: in frames (L, M, V, C) the person is there, and the joint is seen.

    A person of zeros is absent. A joint that is not seen is NaN or, in two dimensions, has no score.
    """
    seen = np.isfinite(frames).all(axis=-1) & (frames != 0).any(axis=(2, 3))[..., None]
    return seen & (frames[..., 2] > 0) if dims == 2 else seen


def filled_joints(frames: np.ndarray, layout: SkeletonLayout, dims: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Joints of frames (L, M, V, C) to be drawn.

    Returns:
        (L, M, V, D) coordinates with the gaps filled, NaN for a person who is absent; and which joints were not seen
        though the person is there, (L, M, V) bool.
    """
    seen = seen_joints(frames, dims)
    there = np.asarray(seen.any(axis=2))
    joints = np.where(seen[..., None], frames[..., :dims], 0.0)
    fill_gaps(joints, seen, there, layout)
    return np.where(there[:, :, None, None], joints, np.nan), there[:, :, None] & ~seen


def fill_gaps(x: np.ndarray, seen: np.ndarray, there: np.ndarray, layout: SkeletonLayout) -> None:
    """Fills joints that are not seen, in place.

    A joint that is seen in other frames is put between them in time (before the first and after the last: as there).
    One that is never seen lies where its neighbour nearer the centre lies, or if that is not seen either, the nearest
    joint of the skeleton that is.

    Args:
        x: (L, M, V, D) finite coordinates.
        seen: (L, M, V) bool.
        there: (L, M) bool: the frames in which a person is filled.
    """
    time = np.arange(len(x))
    for person in range(x.shape[1]):
        rows = time[there[:, person]]
        known = np.any(seen[:, person], axis=0)
        for joint in np.flatnonzero(known & ~seen[rows, person].all(axis=0)).tolist():
            have = time[seen[:, person, joint]]
            for axis in range(x.shape[-1]):
                x[rows, person, joint, axis] = np.interp(rows, have, x[have, person, joint, axis])
        for joint in np.flatnonzero(~known).tolist() if known.any() else ():
            x[rows, person, joint] = x[rows, person, _nearest(layout, joint, known)]


def _nearest(layout: SkeletonLayout, joint: int, known: np.ndarray) -> int:
    """The joint that is the fewest bones away among the known ones; towards the centre first."""
    beside: dict[int, list[int]] = {number: [] for number in range(layout.num_joints)}
    for one, other in layout.bones:
        beside[one].insert(0, other)
        beside[other].append(one)
    reached = [joint]
    for number in reached:
        if known[number]:
            return number
        reached += [other for other in beside[number] if other not in reached]
    raise ValueError(f"no joint of {layout.name} is known")

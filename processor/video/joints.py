"""The joints of a pose estimator -> those of a recogniser, by their names.

A joint that the estimator lacks is the mean of the joints that stand for it, where it has all of these: the pelvis is
between the hips, the neck between the shoulders.

Shapes: V joints of the estimator, W of the recogniser.
"""

from __future__ import annotations

import numpy as np

from feeders.convert.names import joint_key
from feeders.store import DataError
from shapmix.skeleton import LAYOUTS, SkeletonLayout

from .poses import Pose, PoseBackend

STAND_INS = (  # names of a joint; the joints whose mean stands for it
    ("pelvis hip hip_center spine_base root mid_hip", "left_hip right_hip"),
    ("neck shoulder_center spine_shoulder thorax", "left_shoulder right_shoulder"),
    ("spine spine_mid belly", "left_shoulder right_shoulder left_hip right_hip"),
    ("head face", "left_ear right_ear"),
    *((f"{side}_hand", f"{side}_index {side}_pinky") for side in ("left", "right")),
    *((f"{side}_hand_tip", f"{side}_index") for side in ("left", "right")),
    *((f"{side}_foot", f"{side}_foot_index") for side in ("left", "right")),
    *((f"{side}_foot", f"{side}_big_toe") for side in ("left", "right")),
)


def stand_in_weights(source: SkeletonLayout, target: SkeletonLayout) -> tuple[np.ndarray, list[str]]:
    """(W, V) weights whose rows sum to 1, and the names of the target's joints for which the source has none."""
    places = {joint_key(name): place for place, name in enumerate(source.joint_names)}
    weights, missing = np.zeros((target.num_joints, source.num_joints), np.float32), []
    for row, name in zip(weights, target.joint_names, strict=True):
        others = [of for names, of in STAND_INS if joint_key(name) in map(joint_key, names.split())]
        for stands in (name, *others):
            keys = [joint_key(one) for one in stands.split()]
            if all(key in places for key in keys):
                row[[places[key] for key in keys]] = 1 / len(keys)
                break
        else:
            missing.append(name)
    return weights, missing


class JointMap:
    """Brings the poses of an estimator to a recogniser.

    Args:
        backend: the estimator.
        layout, dims: of the recogniser: W joints, and 2 or 3 dimensions.
        up: the axis (0, 1, 2) and the sign of what is up in the recogniser's data, in three dimensions.

    Raises:
        DataError: the recogniser needs places in space and the estimator has none, or the estimator lacks joints.
    """

    def __init__(
        self, backend: PoseBackend | type[PoseBackend], layout: SkeletonLayout, dims: int, up: tuple[int, int] = (1, 1)
    ) -> None:
        if dims > backend.dims:
            raise DataError(
                f"the recogniser was trained on {dims}D skeletons, {backend.name} finds {backend.dims}D poses; use a "
                "recogniser of 2D poses, or --poses mediapipe, which estimates 3D"
            )
        self.dims, self.turn = dims, upwards(*up)
        self.weights, missing = stand_in_weights(backend.layout, layout)
        if missing:
            fits = [name for name, other in LAYOUTS.items() if not stand_in_weights(backend.layout, other)[1]]
            raise DataError(
                f"the recogniser's skeleton {layout.name} has joints that {backend.name} ({backend.layout.name}) does "
                f"not find: {', '.join(missing)}; recognisers of these layouts can be used with it: {', '.join(fits)}"
            )
        self.used = (self.weights > 0)[:, :, None]

    def drawn(self, pose: Pose) -> np.ndarray:
        """(W, 3) x and y in pixels, score: the lowest of the joints that a joint is made of."""
        score = np.where(self.used, pose.joints[None, :, 2:], np.inf).min(axis=1)
        return np.concatenate([self.weights @ pose.joints[:, :2], score], axis=1)

    def values(self, pose: Pose) -> np.ndarray:
        """(W, 3) what the recogniser is given: x, y and score, or x, y, z."""
        if self.dims == 2 or pose.space is None:
            return self.drawn(pose)
        return np.asarray(self.weights @ pose.space @ self.turn.T)


def upwards(axis: int, sign: int) -> np.ndarray:
    """(3, 3) the rotation that takes y, which is up in a pose, to the given axis."""
    turn = np.roll(np.eye(3, dtype=np.float32), axis - 1, axis=0)  # an even permutation, so no mirror
    other = (axis + 1) % 3
    turn[[axis, other]] *= sign  # half a turn about the third axis
    return turn

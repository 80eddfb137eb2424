"""Where the sequences of a store stand in space or in their images, to bring them all to one place.

A :class:`Placement` has a matrix (3, 4) for each sequence. Multiplied with (x, y, z, 1) it centres, turns and scales a
joint; (0, 0, 0, 0) stays nothing. The matrix is found when the sequence is read first.

Shapes: n sequences of a store, N of a batch, F frames of all sequences, L of one, M people, V joints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np

from shapmix.bodies import sides
from shapmix.skeleton import SkeletonLayout

from .anatomy import SAMPLES, upright_axis
from .store import DataError, SkeletonStore

MIN_SCORE = 0.01  # joints of 2D poses with a score of at most this are set to 0
AXES = "xyz"
Scale = Literal["torso", "bones"]


class Placement(ABC):
    """Matrices of the sequences of a store, whose frames are (F, M, V, 3)."""

    def __init__(self, store: SkeletonStore) -> None:
        self.store = store
        self._matrices = np.zeros((len(store), 3, 4), np.float32)
        self._known = np.zeros(len(store), bool)

    def matrices(self, members: np.ndarray) -> np.ndarray:
        """(N, 3, 4) float32."""
        self.find(members)
        return self._matrices[members]

    def find(self, members: np.ndarray) -> None:
        """Reads sequences that were not read before."""
        for member in np.unique(members[~self._known[members]]).tolist():
            frames = self.store.sequence(member)
            centre, matrix = self._place(member, frames.astype(np.float32, copy=False))
            self._matrices[member] = np.concatenate([matrix, -matrix @ centre[:, None]], axis=1)
            self._known[member] = True

    @abstractmethod
    def _place(self, member: int, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre (3,) and matrix (3, 3) of one sequence (L, M, V, 3)."""


class InImage(Placement):
    """2D poses (x, y, score): -1 .. 1 over the image.

    Where its size is not known, over the box around all joints of the sequence that are seen: its centre, and half of
    its longer side.
    """

    def _place(self, member: int, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = np.array([self.store.columns[side][member] / 2 for side in ("width", "height")])
        centre = half
        if not half.all():
            seen = frames[frames[..., 2] > MIN_SCORE][:, :2]
            low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.zeros(2))
            centre, half = (low + high) / 2, np.full(2, (high - low).max() / 2 or 1.0)
        return np.array([*centre, 0]), np.diag([*(1 / half), 1])


class InSpace(Placement):
    """3D skeletons: the centre joint of the first person's first frame becomes the origin.

    Args:
        facing: turn each sequence about the vertical so that in this frame the line from the right shoulder to the left
            one (or hip) points along the first horizontal axis.
        scale: divide by the length of the torso, from the middle of the hips to that of the shoulders; or by the mean
            length of the bones. Of the first person, median over frames; where it is 0, nothing is divided.
        up: the vertical axis: x, y or z; by default the one along which head and feet are farthest apart.

    Raises:
        DataError: an argument out of range, or one that needs joints that the layout does not have.
    """

    def __init__(
        self,
        store: SkeletonStore,
        layout: SkeletonLayout,
        facing: bool = False,
        scale: Scale | None = None,
        up: str | None = None,
    ) -> None:
        super().__init__(store)
        self.layout, self.scale = layout, scale
        self._present = np.zeros(store.frames.shape[:2], bool)
        self._steady = np.zeros(len(store), bool)  # where nobody comes or goes
        self.up = None if up is None else AXES.index(up)
        try:
            self.sides = sides(layout) if facing else None
            self.torso = _torso_joints(layout) if scale == "torso" else None
        except ValueError as error:
            raise DataError(f"{store.path}: {error}; leave out facing, or take scale: bones") from error
        self.up = self.vertical if facing else self.up  # an error now, not when training has begun

    @property
    def vertical(self) -> int:
        """The vertical axis: 0, 1 or 2."""
        if self.up is None:
            rows = np.unique(np.linspace(0, len(self.store) - 1, SAMPLES).astype(int))
            found = upright_axis([self.store.sequence(row) for row in rows], self.layout)
            if found is None:
                raise DataError(
                    f"{self.store.path}: which axis is vertical cannot be found (layout {self.layout.name!r} has no "
                    "head or no feet, or nobody is there); set up: x, y or z"
                )
            self.up = found[0]
        return self.up

    def present(self, members: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(N, T, M) bool: which people are there in frames (N, T) of sequences? Who is absent has zeros only.

        (N, 1, M) where nobody comes or goes in any of these sequences.
        """
        self.find(members)
        if self._steady[members].all():
            frames = frames[:, :1]
        found: np.ndarray = self._present[self.store.offsets[members][:, None] + frames]
        return found

    def _place(self, member: int, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = self._present[slice(*self.store.offsets[member : member + 2])]
        there[:] = frames.any((2, 3))
        self._steady[member] = (there == there[0]).all()
        person = int(there.any(0).argmax())
        own = frames[there[:, person], person] if there.any() else frames[:1, 0]  # (L', V, 3)
        matrix = np.eye(3)
        if self.sides is not None:
            left, right = self.sides
            matrix = self._turned(own[0, left] - own[0, right])
        if self.scale is not None:
            length = float(np.median(self._size(own)))
            matrix = matrix / (length if length > 0 else 1)
        return own[0, self.layout.center], matrix

    def _turned(self, line: np.ndarray) -> np.ndarray:
        """The matrix that turns ``line`` (3,) about the vertical until it points along the first horizontal axis."""
        first, second = (axis for axis in range(3) if axis != self.vertical)
        angle = np.arctan2(line[second], line[first])
        matrix = np.eye(3)
        matrix[first, first] = matrix[second, second] = np.cos(angle)
        matrix[first, second], matrix[second, first] = np.sin(angle), -np.sin(angle)
        return matrix

    def _size(self, joints: np.ndarray) -> np.ndarray:
        """(L,) length of the torso, or mean length of the bones, of joints (L, V, 3)."""
        if self.torso is None:
            bones = joints - joints[:, self.layout.parents()]  # 0 at the centre, which has none
            size: np.ndarray = np.linalg.norm(bones, axis=-1).sum(1) / len(self.layout.bones)
            return size
        hips, shoulders = (joints[:, pair].mean(1) for pair in self.torso)
        return np.asarray(np.linalg.norm(shoulders - hips, axis=-1))


def _torso_joints(layout: SkeletonLayout) -> tuple[list[int], list[int]]:
    """Both hips and both shoulders; ValueError where the layout has no joints so called."""
    hip = "hipjoint" if "left_hipjoint" in layout.joint_names else "hip"
    pairs = [[f"left_{joint}", f"right_{joint}"] for joint in (hip, "shoulder")]
    missing = [name for pair in pairs for name in pair if name not in layout.joint_names]
    if missing:
        raise ValueError(f"layout {layout.name!r} has no joints {', '.join(missing)}, which make a torso")
    hips, shoulders = ([layout.joint(name) for name in pair] for pair in pairs)
    return hips, shoulders

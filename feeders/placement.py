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

from .store import DataError, SkeletonStore

MIN_SCORE = 0.01  # joints of 2D poses with a score of at most this are set to 0
LOOKED_AT = 64  # sequences by which the vertical axis is found
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
        up: the vertical axis: x, y or z; by default the one along which the torsos point.

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
        except ValueError as error:
            raise DataError(f"facing of {store.path}: {error}; leave facing out") from error
        if scale == "torso":
            _torso_joints(layout, f"scale torso of {store.path}: ", "; take scale: bones")

    @property
    def vertical(self) -> int:
        """The vertical axis: 0, 1 or 2."""
        if self.up is None:
            self.up = self._longest_axis()
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
            length = np.median(np.linalg.norm(self._torso(own) if self.scale == "torso" else self._bones(own), axis=-1))
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

    def _torso(self, joints: np.ndarray) -> np.ndarray:
        """(L, 3) from the middle of the hips to that of the shoulders of joints (L, V, 3)."""
        hips, shoulders = (joints[:, pair].mean(1) for pair in _torso_joints(self.layout))
        return shoulders - hips

    def _bones(self, joints: np.ndarray) -> np.ndarray:
        """(L, 1) mean length of the bones of joints (L, V, 3)."""
        bones = np.linalg.norm(joints - joints[:, self.layout.parents()], axis=-1)
        return bones.sum(1, keepdims=True) / len(self.layout.bones)

    def _longest_axis(self) -> int:
        """The axis along which the torsos of some sequences, spread over the store, are longest."""
        rows = np.unique(np.linspace(0, len(self.store) - 1, LOOKED_AT).astype(int))
        people = np.concatenate([self.store.sequence(row).reshape(-1, *self.store.frames.shape[2:]) for row in rows])
        _torso_joints(self.layout, f"the vertical axis of {self.store.path} cannot be found: ", "; set up: x, y or z")
        torsos = self._torso(people[people.any((1, 2))].astype(np.float32))
        return int(np.abs(torsos).mean(0).argmax()) if len(torsos) else 1


def _torso_joints(layout: SkeletonLayout, before: str = "", after: str = "") -> list[list[int]]:
    """Both hips and both shoulders; DataError, with these words around it, where the layout has no joints so called."""
    found = []
    for names in (("hip", "hipjoint"), ("shoulder",)):
        pairs = [[f"left_{name}", f"right_{name}"] for name in names]
        there = [pair for pair in pairs if set(pair) <= set(layout.joint_names)]
        if not there:
            raise DataError(f"{before}layout {layout.name!r} has no joints {' and '.join(pairs[0])}{after}")
        found.append([layout.joint(joint) for joint in there[0]])
    return found

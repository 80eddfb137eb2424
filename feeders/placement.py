"""Where the sequences of a store stand in space or in their images, to bring them all to one place.

A :class:`Placement` has a matrix (3, 4) for each sequence. Multiplied with (x, y, z, 1) it centres, turns and scales a
joint; (0, 0, 0, 0) stays nothing. The matrix is found when the sequence is read first.

Shapes: n sequences of a store, N of a batch, F frames of all sequences, L of one, M people, V joints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

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
            frames = torch.from_numpy(self.store.sequence(member).astype(np.float32))[None]
            self._matrices[member] = self._place(member, frames)[0].numpy()
            self._known[member] = True

    @abstractmethod
    def _place(self, member: int, frames: Tensor) -> Tensor:
        """Matrix (1, 3, 4) of one sequence (1, L, M, V, 3)."""


class InImage(Placement):
    """2D poses (x, y, score): -1 .. 1 over the image.

    Where its size is not known, over the box around all joints of the sequence that are seen: its centre, and half of
    its longer side.
    """

    def _place(self, member: int, frames: Tensor) -> Tensor:
        size = torch.tensor([[float(self.store.columns[side][member]) for side in ("height", "width")]])
        return self.matrix(frames, frames[..., 2] > MIN_SCORE, size)

    def matrix(self, frames: Tensor, seen: Tensor, size: Tensor) -> Tensor:
        """(N, 3, 4) of whole sequences.

        Args:
            frames: (N, L, M, V, 3), where padded with anything.
            seen: (N, L, M, V) bool.
            size: (N, 2) height and width of the image in pixels; 0 where they are not known.
        """
        pixels, seen = frames[..., :2], seen[..., None]
        low = pixels.masked_fill(~seen, torch.inf).amin((1, 2, 3))
        high = pixels.masked_fill(~seen, -torch.inf).amax((1, 2, 3))
        nobody = ~seen.flatten(1).any(1, keepdim=True)
        low, high = low.masked_fill(nobody, 0), high.masked_fill(nobody, 0)
        longer = (high - low).amax(1, keepdim=True) / 2
        box = torch.where(longer > 0, longer, 1).expand_as(low)
        known, image = (size > 0).all(1, keepdim=True), size.flip(1) / 2
        half, centre = (torch.where(known, image, value).double() for value in (box, (low + high) / 2))
        one = torch.ones_like(half[:, :1])
        return _moved(torch.diag_embed(torch.cat([1 / half, one], 1)), torch.cat([centre, 0 * one], 1))


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

    def _place(self, member: int, frames: Tensor) -> Tensor:
        there = self._present[slice(*self.store.offsets[member : member + 2])]
        there[:] = (frames[0] != 0).flatten(2).any(2).numpy()
        self._steady[member] = (there == there[0]).all()
        return self.matrix(frames, torch.from_numpy(there)[None])

    def matrix(self, frames: Tensor, there: Tensor) -> Tensor:
        """(N, 3, 4) of whole sequences.

        Args:
            frames: (N, L, M, V, 3).
            there: (N, L, M) bool: which people are there.
        """
        size = frames.shape[0]  # a trace takes len(frames) for a constant
        rows = torch.arange(size)
        person = there.any(1).int().argmax(1)  # the first one who is
        own, there = frames[rows, :, person], there[rows, :, person]  # (N, L, V, 3), (N, L)
        first = own[rows, there.int().argmax(1)]
        matrix = torch.eye(3, dtype=torch.float64).expand(size, -1, -1)
        if self.sides is not None:
            left, right = self.sides
            matrix = self._turned(first[:, left] - first[:, right])
        if self.scale is not None:
            length = _median(self._size(own), there).double()
            matrix = matrix / torch.where(length > 0, length, 1)[:, None, None]
        return _moved(matrix, first[:, self.layout.center].double())

    def _turned(self, lines: Tensor) -> Tensor:
        """Matrices (N, 3, 3) that turn ``lines`` (N, 3) about the vertical, along the first horizontal axis."""
        first, second = (axis for axis in range(3) if axis != self.vertical)
        angle = torch.atan2(lines[:, second], lines[:, first]).double()
        rows = [[torch.full_like(angle, row == column) for column in range(3)] for row in range(3)]
        rows[first][first] = rows[second][second] = angle.cos()
        rows[first][second], rows[second][first] = angle.sin(), -angle.sin()
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    def _size(self, joints: Tensor) -> Tensor:
        """(N, L) length of the torso, or mean length of the bones, of joints (N, L, V, 3)."""
        if self.torso is None:
            bones = joints - joints[:, :, self.layout.parents()]  # 0 at the centre, which has none
            return bones.norm(dim=-1).sum(2) / len(self.layout.bones)
        hips, shoulders = (joints[:, :, pair].mean(2) for pair in self.torso)
        return (shoulders - hips).norm(dim=-1)


def _moved(matrix: Tensor, centre: Tensor) -> Tensor:
    """(N, 3, 4) float32: ``matrix`` (N, 3, 3) times what is left of a place when ``centre`` (N, 3) is subtracted."""
    return torch.cat([matrix, -(matrix @ centre[:, :, None])], dim=2).float()


def _median(values: Tensor, chosen: Tensor) -> Tensor:
    """(N,) median of the ``chosen`` ones of each row of values (N, L), as numpy has it; 0 where none is chosen."""
    ordered = values.masked_fill(~chosen, torch.inf).sort(dim=1).values
    number = chosen.sum(1, keepdim=True)
    both = torch.cat([(number - 1).clamp(min=0) // 2, number // 2], dim=1)
    return ordered.gather(1, both).mean(1).masked_fill(number[:, 0] == 0, 0)


def _torso_joints(layout: SkeletonLayout) -> tuple[list[int], list[int]]:
    """Both hips and both shoulders; ValueError where the layout has no joints so called."""
    hip = "hipjoint" if "left_hipjoint" in layout.joint_names else "hip"
    pairs = [[f"left_{joint}", f"right_{joint}"] for joint in (hip, "shoulder")]
    missing = [name for pair in pairs for name in pair if name not in layout.joint_names]
    if missing:
        raise ValueError(f"layout {layout.name!r} has no joints {', '.join(missing)}, which make a torso")
    hips, shoulders = ([layout.joint(name) for name in pair] for pair in pairs)
    return hips, shoulders

"""CropFeeder: NTU's view as CTR-GCN has it. A share of each sequence, resized to T frames, rotated in training.

Shapes: N batch, C coordinates, T frames (``window_size``), V joints, M people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .feeder import Draws, Stage, StoreFeeder, Whole
from .store import DataError
from .transforms import centre_crop, neighbouring_frames, random_crop, rotate, rotation_matrices, to_device

TEST_CROP = 0.95
ROTATION = 0.3  # radians, the largest angle about each axis
CACHED = 16  # samples whose frames a processor's cache holds while they are read, resized and rotated


@dataclass(frozen=True)
class CropDraws(Draws):
    """Uniform numbers of a batch: crop (N, 2), share and place; rotation (N, 3); the others are options' of a feeder.

    NTU's are shift (N,) and move (N, 8), that of prepared stores flip (N,).
    """

    crop: Tensor
    rotation: Tensor
    shift: Tensor
    move: Tensor
    flip: Tensor


class CropFeeder(StoreFeeder[CropDraws]):
    """A split of a store, delivered as CTR-GCN delivers NTU.

    Args:
        arguments, options: see StoreFeeder.
        p_interval: share of a sequence that is shown: two numbers, drawn uniformly between them in training, or one,
            the middle of the sequence. By default 0.5 to 1 in training and 0.95 elsewhere.
        random_rot: rotate in training by angles uniform within 0.3 rad about x, y and z.
        min_crop: a training crop has at least so many frames, where the sequence has them.

    Raises:
        DataError: shares outside 0 .. 1, and as StoreFeeder.
    """

    VIEW = (*StoreFeeder.VIEW, "test_share")

    def __init__(
        self,
        *arguments: Any,
        p_interval: Sequence[float] | float | None = None,
        random_rot: bool = True,
        min_crop: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        if p_interval is None:
            p_interval = (0.5, 1.0) if self.training else TEST_CROP
        self.p_interval = tuple(np.atleast_1d(p_interval).tolist())
        if len(self.p_interval) not in (1, 2) or not all(0 < share <= 1 for share in self.p_interval):
            raise DataError(f"p_interval must be one or two shares in 0..1, got {list(self.p_interval)}")
        self.test_share = self.p_interval[0] if len(self.p_interval) == 1 else TEST_CROP
        self.random_rot = random_rot
        self.min_crop = min_crop

    def agree(self, splits: Mapping[str, StoreFeeder[Any]]) -> None:
        """Without augmentation, which is for the baseline, training sequences are cropped as the test split's are."""
        test = splits["test"]
        if self.training and isinstance(test, CropFeeder):
            self.test_share = test.test_share

    def draw(self, size: int, rng: torch.Generator) -> CropDraws:
        """Every number is drawn whether it is used or not, so that no option changes the numbers of another."""
        first, second, flip = (torch.rand(size, columns, generator=rng) for columns in (5, 9, 1))
        return CropDraws(first[:, :2], first[:, 2:], shift=second[:, 0], move=second[:, 1:], flip=flip[:, 0])

    def view(
        self, members: np.ndarray, device: torch.device, draws: CropDraws | None, stage: Stage = "input"
    ) -> Tensor:
        """x (N, C, T, V, M) of stored sequences: crop, resize, rotation, stream."""
        x = self.joint_view(members, device, draws, turned=stage != "frames")
        return self.take_stream(x) if stage == "input" else x

    def shown(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See StoreFeeder: the frames on both sides of each shown one."""
        left, right, weight = self.neighbours(lengths, None)
        return np.concatenate([left, right], axis=1), weight

    def whole_view(self, whole: Whole) -> Tensor:
        """See StoreFeeder."""
        return self.take_stream(self.whole_joints(whole))

    def whole_joints(self, whole: Whole) -> Tensor:
        """As :meth:`joint_view`, (N, C, T, V, M) of whole sequences."""
        assert whole.weight is not None
        near, far = whole.read(whole.frames).chunk(2, dim=2)
        return torch.lerp(near, far, whole.weight[:, None, :, None, None])

    def turn(self, x: Tensor, draws: CropDraws | None) -> Tensor:
        """See StoreFeeder: the rotation."""
        matrices = self.rotation(draws, x.device)
        return x if matrices is None else rotate(x, matrices.to(x.dtype))

    def rotation(self, draws: CropDraws | None, device: torch.device) -> Tensor | None:
        """Matrices (N, 3, 3); None where nothing is turned."""
        if draws is None or not self.random_rot:
            return None
        return rotation_matrices((to_device(draws.rotation, device) * 2 - 1) * ROTATION)

    def joint_view(
        self, members: np.ndarray, device: torch.device, draws: CropDraws | None, turned: bool = True
    ) -> Tensor:
        """Joints (N, C, T, V, M) before the stream is taken, turned or not. In memory they lie as (N, C, T, M, V)."""
        left, right, weight = self.neighbours(self.store.lengths[members], draws)
        frames, far_weight = np.concatenate([left, right], axis=1), to_device(weight, device)[:, None, :, None, None]
        x = self._empty(len(members), self.in_channels, device)
        matrices = self.matrices(members, draws if turned else None, device)
        at_once = CACHED if device.type == "cpu" else len(members)
        for some in (slice(first, first + at_once) for first in range(0, len(members), at_once)):
            near, far = self.read(members[some], frames[some], device).chunk(2, dim=2)
            between = x[some] if matrices is None else self._empty(len(near), matrices.shape[2], device)
            self.interpolate(members[some], frames[some], near, far, far_weight[some], out=between)
            if matrices is not None:
                rotate(between, matrices[some], out=x[some])
        return x

    def _empty(self, samples: int, channels: int, device: torch.device) -> Tensor:
        shape = samples, channels, self.window_size, self.num_person, self.num_joints
        return torch.empty(shape, device=device).transpose(3, 4)

    def matrices(self, members: np.ndarray, draws: CropDraws | None, device: torch.device) -> Tensor | None:
        """What the interpolated channels of sequences are multiplied by (N, C, K); None for nothing, K = C."""
        return self.rotation(draws, device)

    def interpolate(
        self, members: np.ndarray, frames: np.ndarray, near: Tensor, far: Tensor, weight: Tensor, out: Tensor
    ) -> None:
        """Writes what lies between stored frames (N, C, T, V, M) to ``out`` (N, K, T, V, M), K as for :meth:`matrices`.

        Args:
            frames: (N, 2T), which frames of the sequences these are: the near ones, then the far ones.
            weight: (N, 1, T, 1, 1), of the far ones.
        """
        torch.lerp(near, far, weight, out=out)

    def neighbours(self, lengths: np.ndarray, draws: CropDraws | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The stored frames on both sides of each shown one, and the right one's weight, each (N, T)."""
        return neighbouring_frames(*self.crop(lengths, draws), self.window_size)

    def crop(self, lengths: np.ndarray, draws: CropDraws | None) -> tuple[np.ndarray, np.ndarray]:
        """First frames and numbers of frames (N,) that are shown of sequences of these lengths."""
        if draws is None:
            return centre_crop(lengths, self.test_share)
        if len(self.p_interval) == 1:
            return centre_crop(lengths, self.p_interval[0])
        return random_crop(lengths, self.p_interval, self.min_crop, draws.crop.double().numpy())

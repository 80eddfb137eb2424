"""StoreFeeder: sequences of a store -> batches on the device. The data sets' feeders are small classes on top of it.

Shapes: N batch, C coordinates, T frames (``window_size``), V joints, M people, L frames of a stored sequence.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .resident import ResidentFrames
from .store import DataError, SkeletonStore
from .transforms import (
    STREAMS,
    centre_crop,
    random_crop,
    resize_taps,
    rotate,
    rotation_matrices,
    to_device,
    to_stream,
)

log = logging.getLogger(__name__)
Sampler = Literal["instance", "class_balanced", "over_sampling"]
TEST_CROP = 0.95
CACHED = 16  # samples whose frames a processor's cache holds while they are read, resized and rotated


class StoreFeeder:
    """A split of a store, delivered as CTR-GCN delivers NTU: crop, linear resize, rotation, stream.

    Args:
        store: the packed data set.
        members: which of its sequences belong to this split.
        layout: of its joints.
        class_names: K names; labels are 0 .. K-1.
        split: ``train`` draws augmentations; any other split is seen as at test time.
        stream: joint, bone, joint_motion or bone_motion.
        window_size: T.
        p_interval: share of a sequence that is cropped: [low, high] in training, [share] at test time.
        random_rot: rotate in training by angles uniform within ``rotation`` about x, y and z.
        rotation: radians.
        min_crop: a training crop has at least so many frames, where the sequence has them.
        repeat: how often an epoch shows every sequence.
        sampler: ``instance`` shows every sequence once an epoch, see feeders.loader for the others.
        on_bad_sample: what to do with training sequences that cannot be used: ``error``, or ``skip`` (named in the
            log and counted). In other splits they are an error.

    Raises:
        DataError: no sequence in the split, sequences that cannot be used, labels outside the classes.
    """

    def __init__(
        self,
        store: SkeletonStore,
        members: np.ndarray,
        layout: SkeletonLayout,
        class_names: list[str],
        split: str = "train",
        stream: str = "joint",
        window_size: int = 64,
        p_interval: tuple[float, ...] | list[float] | None = None,
        random_rot: bool = True,
        rotation: float = 0.3,
        min_crop: int = 64,
        repeat: int = 1,
        sampler: Sampler = "instance",
        on_bad_sample: Literal["error", "skip"] = "error",
    ) -> None:
        if stream not in STREAMS:
            raise DataError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")
        if window_size < 4 or repeat < 1 or on_bad_sample not in ("error", "skip"):
            raise DataError(
                "window_size must be at least 4, repeat at least 1, on_bad_sample error or skip; "
                f"got {window_size}, {repeat}, {on_bad_sample!r}"
            )
        self.store = store
        self.layout = layout
        self.class_names = class_names
        self.train = "train" in split
        self.split = split
        self.stream = stream
        self.window_size = window_size
        self.random_rot = random_rot
        self.rotation = rotation
        self.min_crop = min_crop
        self.repeat = repeat
        self.sampler = sampler
        shares = tuple(p_interval) if p_interval is not None else ((0.5, 1.0) if self.train else (TEST_CROP,))
        if len(shares) not in (1, 2) or not all(0 < share <= 1 for share in shares):
            raise DataError(f"p_interval must be one or two shares in 0..1, got {list(shares)}")
        self.p_interval = shares
        self.test_crop = shares[0] if len(shares) == 1 else TEST_CROP
        self.members = self._usable(members, on_bad_sample)
        self.labels = store.labels[self.members]
        self.ids = [store.ids[member] for member in self.members]
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.num_class:
            worst = int(np.flatnonzero((self.labels < 0) | (self.labels >= self.num_class))[0])
            raise DataError(
                f"sample {self.ids[worst]} has label {self.labels[worst]}, outside the {self.num_class} classes 0.."
                f"{self.num_class - 1}"
            )
        self.resident: ResidentFrames | None = None
        self.num_person, self.num_joints, self.in_channels = store.frames.shape[1:]
        if self.num_joints != layout.num_joints:
            raise DataError(f"{store.path} has {self.num_joints} joints, layout {layout.name!r} {layout.num_joints}")

    def __len__(self) -> int:
        return len(self.members)

    @property
    def num_class(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> list[int]:
        """Samples of each class in this split (K,)."""
        return np.bincount(self.labels, minlength=self.num_class).tolist()

    @property
    def checksum(self) -> str:
        """Of the store's contents and of which sequences are in the split."""
        return f"{self.store.checksum}/{hashlib.blake2b(self.members.tobytes(), digest_size=8).hexdigest()}"

    def shares_samples(self, other: object) -> bool:
        """Do both splits hold some sequence of one store?"""
        if not isinstance(other, StoreFeeder) or other.store.path != self.store.path:
            return False
        return len(np.intersect1d(self.members, other.members)) > 0

    def draw(self, size: int, rng: torch.Generator) -> Tensor:
        """The random numbers of a training batch, one row a place in the global batch: crop 2, rotation 3."""
        return torch.rand(size, 5, generator=rng)

    def batch(
        self, rows: Tensor | np.ndarray, device: torch.device | str = "cpu", draws: Tensor | None = None
    ) -> Tensor:
        """The samples ``rows`` of this split as x (N, C, T, V, M), float32, on the device.

        Args:
            draws: rows of :meth:`draw`, on the CPU; None gives the test-time view, of training samples too.
        """
        joints = self.joint_view(self.members[np.asarray(rows)], torch.device(device), draws)
        return to_stream(joints, self.layout, self.stream)

    def joint_view(self, members: np.ndarray, device: torch.device, draws: Tensor | None) -> Tensor:
        """Joints (N, C, T, V, M) of stored sequences before the stream is taken: crop, resize, rotation.

        In memory they lie as (N, C, T, M, V).
        """
        left, right, weight = self.taps(self.store.lengths[members], draws)
        frames, far_weight = np.concatenate([left, right], axis=1), to_device(weight, device)[:, None, :, None, None]
        memory = len(members), self.in_channels, self.window_size, self.num_person, self.num_joints
        x = torch.empty(memory, device=device).transpose(3, 4)
        matrices = None
        if draws is not None and self.random_rot:
            matrices = rotation_matrices((to_device(draws[:, 2:5], device) * 2 - 1) * self.rotation)
        at_once = CACHED if device.type == "cpu" else len(members)
        for some in (slice(first, first + at_once) for first in range(0, len(members), at_once)):
            near, far = self.read(members[some], frames[some], device).chunk(2, dim=2)
            if matrices is None:
                torch.lerp(near, far, far_weight[some], out=x[some])
            else:
                between = torch.lerp(near, far, far_weight[some], out=torch.empty_like(x[some]))
                rotate(between, matrices[some], out=x[some])
        return x

    def taps(self, lengths: np.ndarray, draws: Tensor | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The two frames that make each shown one, and the second's weight, each (N, T), see resize_taps."""
        return resize_taps(*self.crop(lengths, draws), self.window_size)

    def crop(self, lengths: np.ndarray, draws: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """First frames and numbers of frames (N,) that are shown of sequences of these lengths."""
        if draws is None or len(self.p_interval) == 1:
            return centre_crop(lengths, self.test_crop)
        low, high = self.p_interval
        return random_crop(lengths, (low, high), self.min_crop, draws[:, :2].double().numpy())

    def read(self, members: np.ndarray, frames: np.ndarray, device: torch.device) -> Tensor:
        """Frames (N, T) of stored sequences -> (N, C, T, V, M) on the device; a copy of one's own."""
        if self.resident is not None and self.resident.frames.device.type == device.type:
            return self.resident.read(members, frames)
        pieces, places = (torch.from_numpy(array) for array in self.store.pieces(members, frames))
        shape = *places.shape, *pieces.shape[1:]
        stored = torch.empty(shape, dtype=pieces.dtype, pin_memory=device.type == "cuda")
        torch.index_select(pieces.flatten(1), 0, places.flatten(), out=stored.view(places.numel(), -1))
        return stored.to(device, non_blocking=True).permute(0, 4, 1, 3, 2)

    def make_resident(self, device: torch.device) -> None:
        """Holds this split's frames in the memory of the device, from where batches for it are made from now on.

        Raises:
            DataError: they do not fit.
        """
        self.resident = ResidentFrames(self.store, self.members, device)

    def padded_joints(self, rows: np.ndarray) -> Tensor:
        """(N, C, T, V, M): the first T stored frames of each sequence, then zeros; joints, whatever the stream."""
        members = self.members[rows]
        place = np.arange(self.window_size)[None]
        inside = place < self.store.lengths[members][:, None]
        x = self.read(members, np.where(inside, place, 0), torch.device("cpu"))
        return x * torch.from_numpy(inside)[:, None, :, None, None]

    def _usable(self, members: np.ndarray, on_bad_sample: str) -> np.ndarray:
        bad = [member for member in members if self.store.ids[member] in self.store.problems]
        first = [self.store.ids[member] for member in bad[:5]]
        named = "; ".join(f"{name} {self.store.problems[name]}" for name in first) + (" ..." if len(bad) > 5 else "")
        if bad and not (on_bad_sample == "skip" and self.train):
            raise DataError(
                f"{len(bad)} {self.split} sample(s) cannot be used: {named}. Mend or remove them"
                + (", or set on_bad_sample: skip in train_feeder_args" if self.train else "")
            )
        if bad:
            log.warning("left out %d of %d training samples: %s", len(bad), len(members), named)
        members = members[~np.isin(members, bad)]
        if not len(members):
            raise DataError(f"{self.store.path}: no sample in split {self.split!r}")
        return members

"""Any prepared store of skeletons, 2D or 3D, of any layout and any number of people. See docs/data.md, "Your own data".

Shapes: N batch, C = 3 channels (x, y, z or x, y, score), T frames (``window_size``), V joints, M people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .convert.pyskl import is_training
from .crop import ROTATION, CropDraws, CropFeeder
from .feeder import BAD_VALUE_LIMIT, Whole
from .files import kind_of
from .lists import listed_rows
from .longtail import cut_long_tail
from .own_splits import held_out, list_path, split_names, split_rows
from .placement import AXES, MIN_SCORE, InImage, InSpace, Scale
from .store import DataError, SkeletonStore
from .transforms import mirror, rotate, rotation_matrices, to_device

NEEDED = {"layout", "class_names"}  # entries of meta.json


class Feeder(CropFeeder):
    """A split of a prepared store: a share of each sequence, resized to T frames, brought to one place, turned.

    3D skeletons are centred on the layout's centre joint in the first frame of the first person. 2D poses run from -1
    to 1 over the image, their scores are a channel. People who are absent, and joints of 2D poses that are not seen,
    stay 0, also between two stored frames.

    Args:
        data_path: a store, as ``tools.convert`` or ``tools.prepare_pose`` writes it.
        split: one of the store's splits, such as ``train``, ``val``, ``test``. Those with ``train`` in their name are
            trained on.
        stream, window_size, repeat, on_bad_sample, bad_value_limit: see StoreFeeder. p_interval: see CropFeeder.
        split_path: list of the sequences of a training split to use, one id a line, such as a long-tailed one of
            ``tools.make_longtail``. No effect on other splits.
        val_subjects: names of training subjects that are held out for ``split: val``; for stores without that split.
        val_fraction: instead, the share (0 .. 1) of training subjects to hold out; always the same ones.
        long_tail: ``{n_max: 100, imbalance: 10, seed: 0}`` cuts the training set by BRL's protocol; without ``n_max``
            as large as it can be. The last classes are rare; with ``order_seed: 0``, classes at random.
        min_crop: a training crop has at least so many frames, where the sequence has them; by default half of T.
        facing, scale, up: of 3D skeletons, see feeders.placement.InSpace.
        random_rot: the largest angle, in radians, by which training sequences are turned; 0 or false: not at all.
        rotate_about: ``all``: about x, y and z, each by an angle of its own; ``up``: about the vertical axis. 2D poses
            turn in the image.
        flip: how often (0 .. 1) left and right are exchanged in training.
        layout: other parts or edges of the same joints than the store says.

    Raises:
        DataError: data or lists that are missing or damaged, options out of range or that contradict each other.
    """

    VIEW = (*CropFeeder.VIEW, "facing", "scale", "up")

    def __init__(
        self,
        data_path: str,
        split: str = "train",
        stream: str = "joint",
        window_size: int = 64,
        repeat: int = 1,
        split_path: str | None = None,
        val_subjects: Sequence[object] = (),
        val_fraction: float = 0.0,
        long_tail: Mapping[str, Any] | None = None,
        p_interval: Sequence[float] | float | None = None,
        min_crop: int | None = None,
        facing: bool = False,
        scale: Scale | None = None,
        up: Literal["x", "y", "z"] | None = None,
        random_rot: float = ROTATION,
        rotate_about: Literal["all", "up"] = "all",
        flip: float = 0.0,
        layout: str | Mapping[str, Any] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        bad_value_limit: float = BAD_VALUE_LIMIT,
    ) -> None:
        _check(scale, up, rotate_about, random_rot, flip)
        self.facing, self.scale = facing, scale
        self.up: str | None = up
        store = open_store(Path(data_path))
        skeleton = SkeletonLayout.get(layout or store.meta["layout"])
        if split_path is not None and long_tail is not None:
            raise DataError("give split_path, a long-tailed list, or long_tail, which cuts the training set; not both")
        members = _members(store, split, val_subjects, val_fraction)
        class_names = list(store.meta["class_names"])
        if is_training(split) and split_path is not None:
            whole, place = split_rows(store, split), f"split {split} of {store.path}"
            listed = listed_rows(Path(split_path), store.ids, whole, place, on_bad_sample == "skip")
            members = members[np.isin(members, listed)]
        if is_training(split) and long_tail is not None:
            members = members[cut_long_tail(store.labels[members], len(class_names), long_tail)]
        super().__init__(
            store, members, skeleton, class_names, split, is_training(split), stream, window_size, repeat,
            on_bad_sample=on_bad_sample, bad_value_limit=bad_value_limit, p_interval=p_interval,
            random_rot=bool(random_rot), min_crop=window_size // 2 if min_crop is None else min_crop,
        )  # fmt: skip
        if self.flat and (facing or scale or rotate_about == "up"):
            raise DataError(f"{store.path} holds 2D poses; facing, scale and rotate_about: up are for 3D skeletons")
        self.flip, self.across = flip, 0
        if flip:
            skeleton.mirrored()  # raises where a layout has no sides
            self.across = int(isinstance(self.placement, InSpace) and self.placement.vertical == 0)
        self.angles = self._angles(ROTATION if random_rot is True else random_rot, rotate_about)

    def over(self, store: SkeletonStore, members: np.ndarray) -> None:
        """See StoreFeeder; and where its sequences stand."""
        super().over(store, members)
        self.flat = store.dims == 2
        self.placement = InImage(store) if self.flat else InSpace(store, self.layout, self.facing, self.scale, self.up)
        if isinstance(self.placement, InSpace) and self.facing:
            self.up = AXES[self.placement.vertical]

    def _angles(self, largest: float, about: str) -> Tensor:
        """(3,) the largest angles about x, y and z, in radians."""
        if isinstance(self.placement, InSpace) and about == "all":
            return torch.full((3,), largest)
        axis = self.placement.vertical if isinstance(self.placement, InSpace) else 2  # an image turns about z
        return largest * (torch.arange(3) == axis)

    @property
    def coordinates(self) -> int:
        return 2 if self.flat else 3

    @property
    def vertical(self) -> int:
        """See StoreFeeder; ``up``, or the axis along which head and feet are farthest apart."""
        return self.placement.vertical if isinstance(self.placement, InSpace) else super().vertical

    def rotation(self, draws: CropDraws | None, device: torch.device) -> Tensor | None:
        """Matrices (N, 3, 3) of the random rotation; None where nothing is turned."""
        if draws is None or not self.random_rot:
            return None
        return rotation_matrices((to_device(draws.rotation, device) * 2 - 1) * to_device(self.angles, device))

    def matrices(self, members: np.ndarray, draws: CropDraws | None, device: torch.device) -> Tensor:
        """(N, 3, 4), see CropFeeder: the placement, then the rotation."""
        placed, turn = to_device(self.placement.matrices(members), device), self.rotation(draws, device)
        return placed if turn is None else turn @ placed

    def joint_view(
        self, members: np.ndarray, device: torch.device, draws: CropDraws | None, turned: bool = True
    ) -> Tensor:
        """See CropFeeder. Left and right are exchanged before the rotation."""
        if draws is None or not turned or not self.flip:
            return super().joint_view(members, device, draws, turned)
        return self.turn(super().joint_view(members, device, draws, turned=False), draws)

    def turn(self, x: Tensor, draws: CropDraws | None) -> Tensor:
        """See StoreFeeder: flip, rotation."""
        if draws is not None and self.flip:
            x = mirror(x, to_device(draws.flip, x.device) < self.flip, self.layout, self.across)
        return super().turn(x, draws)

    def interpolate(
        self, members: np.ndarray, frames: np.ndarray, near: Tensor, far: Tensor, weight: Tensor, out: Tensor
    ) -> None:
        """See CropFeeder. The fourth channel says who is there (1 or 0): the placement moves only them.

        Where somebody (in 2D: a joint) is in one of two frames only, the nearer one is shown and nothing between them.
        """
        near, far = near.float(), far.float()
        if isinstance(self.placement, InImage):
            joints_between(near, far, weight, out)
            return
        there = self.placement.present(members, frames)
        before, after = (there, there) if there.shape[1] == 1 else np.split(there, 2, axis=1)
        shape = len(members), self.window_size, self.num_person
        shown = _over_joints(to_device(np.broadcast_to(before, shape).astype(np.float32), out.device))
        if (before != after).any():
            weight, shown = nearer(weight, shown, _over_joints(to_device(before != after, out.device)))
        torch.lerp(near, far, weight, out=out[:, :3])
        out[:, 3:] = shown

    def whole_joints(self, whole: Whole) -> Tensor:
        """See CropFeeder."""
        assert whole.weight is not None
        near, far = whole.read(whole.frames).chunk(2, dim=2)
        weight, sequence, inside = whole.weight[:, None, :, None, None], whole.sequence, whole.inside()[:, :, None]
        out = near.new_empty(near.shape[0], 4, *near.shape[2:])
        if isinstance(self.placement, InImage):
            assert whole.size is not None
            joints_between(near, far, weight, out)
            matrices = self.placement.matrix(sequence, (sequence[..., 2] > MIN_SCORE) & inside[..., None], whole.size)
        else:
            there = (sequence != 0).flatten(3).any(3) & inside
            both = there.gather(1, whole.frames[:, :, None].expand(-1, -1, there.shape[2]))
            before, after = map(_over_joints, both.chunk(2, dim=1))
            weight, out[:, 3:] = nearer(weight, before.float(), before != after)
            torch.lerp(near, far, weight, out=out[:, :3])
            matrices = self.placement.matrix(sequence, there)
        return rotate(out, matrices)

    def padded_joints(self, rows: np.ndarray) -> Tensor:
        """See StoreFeeder; in their place, as all views."""
        members, place = self.members[rows], np.arange(self.window_size)[None]
        inside = place < self.store.lengths[members][:, None]
        frames = np.where(inside, place, 0)
        stored = self.read(members, frames, torch.device("cpu"))
        x = torch.empty(len(stored), 4, *stored.shape[2:])
        nearest = torch.zeros(len(members), 1, self.window_size, 1, 1)
        self.interpolate(members, np.concatenate([frames, frames], axis=1), stored, stored, nearest, out=x)
        x = rotate(x, self.matrices(members, None, x.device))
        return x * torch.from_numpy(inside)[:, None, :, None, None]


def open_store(path: Path) -> SkeletonStore:
    """A prepared store; DataError where ``path`` is none, or none whose layout and classes are known."""
    if not (path / "meta.json").is_file():
        raise DataError(
            f"data_path {path} is not a prepared store, it {kind_of(path)}; write one with python -m tools.convert "
            f"FOLDER --out {path}"
        )
    store = SkeletonStore(path)
    missing = sorted(NEEDED - store.meta.keys())
    if missing or store.frames.shape[3] != 3:
        what = f"no {' and '.join(missing)} in meta.json" if missing else f"{store.frames.shape[3]} channels, not 3"
        raise DataError(f"{path} has {what}: it was not written by tools.convert or tools.prepare_pose")
    most = int(store.labels.max(initial=0))
    if most >= len(store.meta["class_names"]):
        raise DataError(
            f"{path}: labels go up to {most}, but meta.json has {len(store.meta['class_names'])} class_names"
        )
    return store


def _members(store: SkeletonStore, split: str, val_subjects: Sequence[object], val_fraction: float) -> np.ndarray:
    """The rows of a split, without or with what is held out of the training split."""
    if not val_subjects and not val_fraction:
        return split_rows(store, split)
    if "val" in split_names(store):
        raise DataError(
            f"{store.path} has a split val: leave out val_subjects and val_fraction, or remove its list "
            f"{list_path(store, 'val')}"
        )
    rows = split_rows(store, "train" if split == "val" else split)
    if split != "val" and not is_training(split):
        return rows
    held = held_out(store, rows, val_subjects, val_fraction)
    return rows[held == (split == "val")]


def _check(scale: object, up: object, rotate_about: object, random_rot: float, flip: float) -> None:
    """DataError for options out of range."""
    for key, value, known in (
        ("scale", scale, (None, "torso", "bones")),
        ("up", up, (None, "x", "y", "z")),
        ("rotate_about", rotate_about, ("all", "up")),
    ):
        if value not in known:
            words = ", ".join("null" if one is None else one for one in known)
            raise DataError(f"{key} must be one of {words}, got {value!r}")
    if not 0 <= flip <= 1 or not 0 <= random_rot <= math.pi:
        raise DataError(f"flip must be a share in 0 .. 1, random_rot an angle in 0 .. pi; got {flip}, {random_rot}")


def nearer(weight: Tensor, shown: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    """Weights, and who is shown (1 or 0), so that of frames between which somebody comes or goes the nearer is shown.

    Args:
        weight: (N, 1, T, 1, 1), of the far frames.
        shown: (N, 1, T, 1, M), who is in the near frames.
        mixed: the same shape, bool: who is in only one of the two.
    """
    weight = torch.where(mixed, weight.round(), weight)
    return weight, torch.where(mixed & (weight == 1), 1 - shown, shown)


def joints_between(near: Tensor, far: Tensor, weight: Tensor, out: Tensor) -> None:
    """Writes what lies between 2D poses (N, 3, T, V, M) to ``out`` (N, 4, T, V, M), see :meth:`Feeder.interpolate`."""
    mixed = (near[:, 2:] > MIN_SCORE) != (far[:, 2:] > MIN_SCORE)
    torch.lerp(near, far, torch.where(mixed, weight.round(), weight), out=out[:, :3])
    out[:, 3:] = out[:, 2:3] > MIN_SCORE
    out[:, :2].mul_(out[:, 3:])


def _over_joints(people: Tensor) -> Tensor:
    """(N, T, M) as (N, 1, T, 1, M)."""
    return people[:, None, :, None, :]

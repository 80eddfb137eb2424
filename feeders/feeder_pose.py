"""2D poses from a prepared store or PYSKL's annotation pickle: uniform frame sampling, ten-clip test (METHOD 6).

Shapes: N batch, C = 3 channels (x, y, score), T frames (``window_size``), V joints, M people, Q clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .convert.pyskl import Recipe, read_pose, read_poses
from .feeder import StoreFeeder
from .store import DataError, SkeletonStore, cache_folders, fingerprint_files
from .transforms import mirror, pose_stream, to_device, turn_and_scale
from .uniform_sampling import test_clips, training_clips

MIN_SCORE = 0.01  # joints that a detector is less sure of are put at 0


class PoseFeeder(StoreFeeder):
    """A split of a store of 2D poses, as PYSKL shows them.

    Frames are sampled uniformly, coordinates run from -1 to 1 over the image, scores are a channel.

    Args:
        store: frames (F, M, V, C) in pixels, with columns ``height`` and ``width`` of the picture.
        members, layout, class_names, repeat, on_bad_sample: see StoreFeeder.
        split: its name; seen as in training where that holds "train".
        stream: joint, bone, joint_motion or bone_motion; motion is that of neighbouring frames, taken before sampling.
        window_size: T.
        num_clips: Q, how many clips of a sequence are shown at test time; their probabilities are averaged.
        flip: how often (0 .. 1) left and right are exchanged in training.
        random_scale: in training x and y are scaled by factors within 1 -+ this.
        random_rot: in training the picture is turned within -+ this, in radians.

    Raises:
        DataError: options out of range, and as StoreFeeder.
    """

    def __init__(
        self,
        store: SkeletonStore,
        members: np.ndarray,
        layout: SkeletonLayout,
        class_names: list[str],
        split: str = "train",
        stream: str = "joint",
        window_size: int = 100,
        num_clips: int = 1,
        flip: float = 0.0,
        random_scale: float = 0.0,
        random_rot: float = 0.0,
        repeat: int = 1,
        on_bad_sample: Literal["error", "skip"] = "error",
    ) -> None:
        if num_clips < 1 or not 0 <= flip <= 1 or not 0 <= random_scale < 1 or random_rot < 0:
            raise DataError(
                "num_clips must be at least 1, flip a share, random_scale in 0 .. 1, random_rot at least 0; got "
                f"{num_clips}, {flip}, {random_scale}, {random_rot}"
            )
        super().__init__(
            store, members, layout, class_names, split, stream, window_size,
            random_rot=False, repeat=repeat, on_bad_sample=on_bad_sample,
        )  # fmt: skip
        if flip:
            layout.mirrored()  # says what is wrong with a layout that has no sides
        self.num_clips = 1 if self.train else num_clips
        self.flip, self.random_scale, self.turn = flip, random_scale, random_rot
        self.half_size = np.stack([store.columns["width"], store.columns["height"]], axis=1) / 2

    def draw(self, size: int, rng: torch.Generator) -> Tensor:
        """The random numbers of a training batch, one row a place: frames T + 1, flip 1, scale 2, rotation 1."""
        return torch.rand(size, self.window_size + 5, generator=rng)

    def batch(
        self, rows: Tensor | np.ndarray, device: torch.device | str = "cpu", draws: Tensor | None = None
    ) -> Tensor:
        """The samples ``rows`` as x (N, C, T, V, M); at test time (N * Q, C, T, V, M), the Q clips of each in turn."""
        members, device = self.members[np.asarray(rows)], torch.device(device)
        clips = self.num_clips if draws is None else 1
        frames = self.sample(members, draws).reshape(len(members) * clips, self.window_size)
        members = members.repeat(clips)
        if not self.stream.endswith("motion"):
            return pose_stream(self.poses(members, frames, device, draws), None, self.layout, self.stream)
        last = self.store.lengths[members][:, None] - 1
        both = np.concatenate([frames, np.minimum(frames + 1, last)], axis=1)
        now, following = self.poses(members, both, device, draws).chunk(2, dim=2)
        moving = to_device(frames < last, device)
        return pose_stream(now, following, self.layout, self.stream) * moving[:, None, :, None, None]

    def sample(self, members: np.ndarray, draws: Tensor | None) -> np.ndarray:
        """Which frames are shown of stored sequences: (N, T) in training, (N, Q, T) at test time."""
        lengths = self.store.lengths[members]
        if draws is not None:
            return training_clips(lengths, self.window_size, draws[:, : self.window_size + 1].double().numpy())
        return np.stack([test_clips(int(length), self.window_size, self.num_clips) for length in lengths])

    def poses(self, members: np.ndarray, frames: np.ndarray, device: torch.device, draws: Tensor | None) -> Tensor:
        """Joints (N, C, T', V, M) of frames (N, T') of stored sequences: -1 .. 1 over the image, augmented."""
        x = self.read(members, frames, device).contiguous().float()
        half = to_device(torch.from_numpy(self.half_size[members]).to(x.dtype), device)[:, :, None, None, None]
        x[:, :2].div_(half).sub_(1).mul_(x[:, 2:] > MIN_SCORE)
        if draws is not None:
            own = to_device(draws[:, self.window_size + 1 :], device)
            if self.flip:
                x = mirror(x, own[:, 0] < self.flip, self.layout)
            if self.random_scale or self.turn:
                scale = 1 + (own[:, 1:3] * 2 - 1) * self.random_scale
                x = turn_and_scale(x, (own[:, 3] * 2 - 1) * self.turn, scale)
        return x

    def padded_joints(self, rows: np.ndarray) -> Tensor:
        """(N, C, T, V, M): the first T stored frames, then zeros; joints in pixels, as the official code reads them."""
        return super().padded_joints(rows).float()


class Feeder(PoseFeeder):
    """2D poses from a prepared store or PYSKL's annotation pickle.

    Args:
        data_path: a store written by ``tools.prepare_pose``.
        ann_file: instead, PYSKL's annotation pickle, which is packed into a store beside it the first time.
        split: a split of that data, such as ``train``, ``val``, ``xsub_train``.
        stream, window_size, num_clips, flip, random_scale, random_rot, repeat, on_bad_sample: see PoseFeeder.
        layout: of the joints; by default the store's, coco17 for a pickle.
        box_thr, valid_ratio: of ``ann_file``, see feeders.convert.pyskl.Recipe.
        cache_dir: where the store of a pickle lies; by default beside it.

    Raises:
        DataError: data that is missing or damaged, a split that is not there.
    """

    def __init__(
        self,
        data_path: str | None = None,
        ann_file: str | None = None,
        split: str = "train",
        stream: str = "joint",
        window_size: int = 100,
        num_clips: int = 1,
        flip: float = 0.0,
        random_scale: float = 0.0,
        random_rot: float = 0.0,
        repeat: int = 1,
        layout: str | Mapping[str, Any] | None = None,
        box_thr: float | None = None,
        valid_ratio: float | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        cache_dir: str | None = None,
    ) -> None:
        if (data_path is None) == (ann_file is None):
            raise DataError("give either data_path, a store written by tools.prepare_pose, or ann_file, PYSKL's pickle")
        if ann_file is not None:
            folder = str(Path(ann_file).parent)
            recipe = Recipe(SkeletonLayout.get(layout or "coco17"), box_thr or 0.0, valid_ratio or 0.0, folder=folder)
            store = open_annotations(Path(ann_file), recipe, cache_dir)
        else:
            store = _open_store(Path(str(data_path)))
        super().__init__(
            store, _members(store, split), SkeletonLayout.get(layout or store.meta["layout"]),
            store.meta["class_names"], split, stream, window_size, num_clips, flip, random_scale, random_rot,
            repeat, on_bad_sample,
        )  # fmt: skip


def open_annotations(path: Path, recipe: Recipe, cache_dir: str | None = None) -> SkeletonStore:
    """The store of an annotation pickle; packed where it is missing or the pickle has changed."""
    if not path.is_file():
        raise DataError(f"annotation file {path} does not exist; set ann_file to PYSKL's pickle")
    name = f"{path.stem}-{recipe.layout.name}-{recipe.box_thr:g}-{recipe.valid_ratio:g}"
    where = cache_folders(path, cache_dir), name, fingerprint_files([path], recipe)
    packed = SkeletonStore.find(*where)
    if packed is not None:
        return packed
    poses = read_poses(path, recipe)
    return SkeletonStore.build(*where, lambda: map(read_pose, poses.poses), **poses.meta(recipe))


def _open_store(path: Path) -> SkeletonStore:
    if not (path / "meta.json").is_file():
        raise DataError(
            f"data_path {path} is no prepared store; write one with python -m tools.prepare_pose ANNOTATIONS.pkl "
            f"--out {path}, or set ann_file to PYSKL's pickle"
        )
    store = SkeletonStore(path)
    if not {"layout", "class_names", "splits"} <= store.meta.keys():
        raise DataError(f"{path} was not written by tools.prepare_pose")
    return store


def _members(store: SkeletonStore, split: str) -> np.ndarray:
    splits: Sequence[str] = store.meta["splits"]
    if split not in splits:
        raise DataError(f"{store.path} has no split {split!r}; there are {', '.join(splits)}")
    return np.flatnonzero(store.columns[f"in {split}"])

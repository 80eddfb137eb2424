"""2D poses from a prepared store or PYSKL's annotation pickle: uniform frame sampling, several clips in evaluation.

See docs/method.md, "Training recipes" and "Official files".

Shapes: N batch, C = 3 channels (x, y, score), T frames (``window_size``), V joints, M people, Q clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .convert.pyskl import Recipe, is_training, read_pose, read_poses
from .feeder import BAD_VALUE_LIMIT, Draws, StoreFeeder
from .files import kind_of
from .store import DataError, SkeletonStore, cache_folders, fingerprint_files
from .transforms import mirror, pose_stream, to_device, turn_and_scale
from .uniform_sampling import test_clips, training_clips

MIN_SCORE = 0.01  # joints with a score of at most this are set to 0


@dataclass(frozen=True)
class PoseDraws(Draws):
    """Uniform numbers of a batch: frames (N, T + 1), flip (N,), scale (N, 2) of x and y, rotation (N,)."""

    frames: Tensor
    flip: Tensor
    scale: Tensor
    rotation: Tensor


class PoseFeeder(StoreFeeder[PoseDraws]):
    """A split of a store of 2D poses, as PYSKL shows them.

    Frames are sampled uniformly, coordinates run from -1 to 1 over the image, scores are a channel. A motion stream is
    the difference between neighbouring stored frames, taken before sampling.

    Args:
        store: frames (F, M, V, C) in pixels, with columns ``height`` and ``width`` of the image.
        arguments, options: see StoreFeeder.
        num_clips: Q, how many clips of a sequence are shown outside training; their probabilities are averaged.
        flip: how often (0 .. 1) left and right are exchanged in training.
        random_scale: in training x and y are scaled by factors within 1 -+ this.
        random_rot: in training the image is turned within -+ this, in radians.

    Raises:
        DataError: options out of range, and as StoreFeeder.
    """

    def __init__(
        self,
        store: SkeletonStore,
        *arguments: Any,
        num_clips: int = 1,
        flip: float = 0.0,
        random_scale: float = 0.0,
        random_rot: float = 0.0,
        **options: Any,
    ) -> None:
        if num_clips < 1 or not 0 <= flip <= 1 or not 0 <= random_scale < 1 or random_rot < 0:
            raise DataError(
                "num_clips must be at least 1, flip a share, random_scale in 0 .. 1, random_rot at least 0; got "
                f"{num_clips}, {flip}, {random_scale}, {random_rot}"
            )
        super().__init__(store, *arguments, **options)
        if flip:
            self.layout.mirrored()  # raises where a layout has no sides
        self.num_clips = 1 if self.training else num_clips
        self.flip, self.random_scale, self.random_rot = flip, random_scale, random_rot
        self.half_size = np.stack([store.columns["width"], store.columns["height"]], axis=1) / 2

    def draw(self, size: int, rng: torch.Generator) -> PoseDraws:
        """Every number is drawn whether it is used or not, so that no option changes the numbers of another."""
        frames, others = torch.rand(size, self.window_size + 5, generator=rng).split([self.window_size + 1, 4], dim=1)
        return PoseDraws(frames, flip=others[:, 0], scale=others[:, 1:3], rotation=others[:, 3])

    def view(self, members: np.ndarray, device: torch.device, draws: PoseDraws | None) -> Tensor:
        """x (N, C, T, V, M) of stored sequences; without draws (N * Q, C, T, V, M), the Q clips of each in turn."""
        lengths = self.store.lengths[members]
        if draws is None:
            clips = [test_clips(int(length), self.window_size, self.num_clips) for length in lengths]
            frames, members = np.concatenate(clips), members.repeat(self.num_clips)
        else:
            frames = training_clips(lengths, self.window_size, draws.frames.double().numpy())
        if not self.stream.endswith("motion"):
            return pose_stream(self.poses(members, frames, device, draws), None, self.layout, self.stream)
        last = self.store.lengths[members][:, None] - 1
        both = np.concatenate([frames, np.minimum(frames + 1, last)], axis=1)
        now, following = self.poses(members, both, device, draws).chunk(2, dim=2)
        moving = to_device(frames < last, device)
        return pose_stream(now, following, self.layout, self.stream) * moving[:, None, :, None, None]

    def poses(self, members: np.ndarray, frames: np.ndarray, device: torch.device, draws: PoseDraws | None) -> Tensor:
        """Joints (N, C, T', V, M) of frames (N, T') of stored sequences: -1 .. 1 over the image, augmented."""
        x = self.read(members, frames, device).contiguous().float()
        half = to_device(torch.from_numpy(self.half_size[members]).to(x.dtype), device)[:, :, None, None, None]
        x[:, :2].div_(half).sub_(1).mul_(x[:, 2:] > MIN_SCORE)
        if draws is None:
            return x
        if self.flip:
            x = mirror(x, to_device(draws.flip, device) < self.flip, self.layout)
        if self.random_scale or self.random_rot:
            scale = 1 + (to_device(draws.scale, device) * 2 - 1) * self.random_scale
            x = turn_and_scale(x, (to_device(draws.rotation, device) * 2 - 1) * self.random_rot, scale)
        return x


class Feeder(PoseFeeder):
    """2D poses from a prepared store or PYSKL's annotation pickle.

    Args:
        data_path: a store written by ``tools.prepare_pose``.
        ann_file: instead, PYSKL's annotation pickle, which is packed into a store beside it the first time.
        split: a split of that data, such as ``train``, ``val``, ``xsub_train``.
        stream, window_size, num_clips, flip, random_scale, random_rot, repeat, on_bad_sample: see PoseFeeder.
        bad_value_limit: see StoreFeeder.
        layout: of the joints; by default the store's, coco17 for a pickle.
        box_thr, valid_ratio: of ``ann_file``, see feeders.convert.pyskl.Recipe.
        cache_dir: where the store of a pickle lies; by default beside it.

    Raises:
        DataError: data that is missing or damaged, no such split.
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
        bad_value_limit: float = BAD_VALUE_LIMIT,
        cache_dir: str | None = None,
    ) -> None:
        if (data_path is None) == (ann_file is None):
            raise DataError("give either data_path, a store written by tools.prepare_pose, or ann_file, PYSKL's pickle")
        if ann_file is not None:
            folder = str(Path(ann_file).resolve().parent)
            recipe = Recipe(SkeletonLayout.get(layout or "coco17"), box_thr or 0.0, valid_ratio or 0.0, folder=folder)
            store = open_annotations(Path(ann_file), recipe, cache_dir)
        else:
            store = _open_store(Path(str(data_path)))
        if split not in store.meta["splits"]:
            raise DataError(f"{store.path} has no split {split!r}; there are {', '.join(store.meta['splits'])}")
        members, skeleton = np.flatnonzero(store.columns[f"in {split}"]), layout or store.meta["layout"]
        super().__init__(
            store, members, SkeletonLayout.get(skeleton), store.meta["class_names"], split, is_training(split), stream,
            window_size, repeat, on_bad_sample=on_bad_sample, bad_value_limit=bad_value_limit, num_clips=num_clips,
            flip=flip, random_scale=random_scale, random_rot=random_rot,
        )  # fmt: skip


def open_annotations(path: Path, recipe: Recipe, cache_dir: str | None = None) -> SkeletonStore:
    """The store of an annotation pickle; packed again when the pickle has changed."""
    if not path.is_file():
        raise DataError(f"annotation file {path} {kind_of(path)}; set ann_file to PYSKL's pickle")
    name = f"{path.stem}-{recipe.layout.name}-{recipe.box_thr:g}-{recipe.valid_ratio:g}"
    where = cache_folders(path, cache_dir), name, fingerprint_files([path], recipe)
    packed = SkeletonStore.find(*where)
    if packed is not None:
        return packed
    poses = read_poses(path, recipe)
    return SkeletonStore.build(*where, lambda: map(read_pose, poses.poses), source=path, **poses.meta(recipe))


def _open_store(path: Path) -> SkeletonStore:
    if not (path / "meta.json").is_file():
        raise DataError(
            f"data_path {path} is not a prepared store, it {kind_of(path)}; write one with python -m "
            f"tools.prepare_pose ANNOTATIONS.pkl --out {path}, or set ann_file to PYSKL's pickle"
        )
    store = SkeletonStore(path)
    if not {"layout", "class_names", "splits"} <= store.meta.keys():
        raise DataError(f"{path} was not written by tools.prepare_pose")
    return store

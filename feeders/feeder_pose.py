"""2D poses and 3D skeletons from a prepared store or PYSKL's annotation pickle: uniform sampling, clips in evaluation.

See docs/method.md, "Training recipes", "PYSKL's 3D skeletons" and "Official files".

Shapes: N batch, C = 3 channels (x, y, score or x, y, z), T frames (``window_size``), V joints, M people, Q clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .convert.pickles import PICKLES
from .convert.pyskl import is_training, read_class_names, read_pose, read_poses
from .convert.pyskl_3d import prepare_skeleton
from .convert.recipe import Boxes, Recipe
from .feeder import BAD_VALUE_LIMIT, Draws, Stage, StoreFeeder, Whole
from .files import kind_of
from .lists import listed_rows
from .placement import MIN_SCORE
from .store import DataError, Sample, SkeletonStore, cache_folders, fingerprint_files
from .transforms import mirror, pose_stream, to_device, turn_and_scale
from .uniform_sampling import test_clips, training_clips


@dataclass(frozen=True)
class PoseDraws(Draws):
    """Uniform numbers of a batch: frames (N, T + 1), flip (N,), scale (N, D) of D coordinates, rotation (N, R).

    A 2D pose turns in the image, D = 2 and R = 1; a skeleton about x, y and z, D = R = 3.
    """

    frames: Tensor
    flip: Tensor
    scale: Tensor
    rotation: Tensor


class PoseFeeder(StoreFeeder[PoseDraws]):
    """A split of a store of 2D poses or 3D skeletons, as PYSKL shows them.

    Frames are sampled uniformly. Coordinates of 2D poses run from -1 to 1 over the image, their scores are a channel;
    3D skeletons are shown as they lie in the store. A motion stream is the difference between neighbouring stored
    frames, taken before sampling.

    Args:
        store: frames (F, M, V, C) of x, y (in pixels) and score, with columns ``height`` and ``width`` of the image; or
            of x, y and z, without them.
        arguments, options: see StoreFeeder.
        num_clips: Q, how many clips of a sequence are shown outside training; their probabilities are averaged.
        flip: how often (0 .. 1) left and right are exchanged in training.
        random_scale: in training each coordinate is scaled by a factor within 1 -+ this.
        random_rot: in training the image is turned within -+ this, in radians; a 3D skeleton so about x, y and z.

    Raises:
        DataError: options out of range, and as StoreFeeder.
    """

    needs_size = True
    stored_motion = True
    skips_held_out = True  # a video in which the detector saw nobody
    VIEW = (*StoreFeeder.VIEW, "num_clips")

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

    def over(self, store: SkeletonStore, members: np.ndarray) -> None:
        """See StoreFeeder; and the sizes of the images."""
        super().over(store, members)
        self.half_size: np.ndarray | None = None
        if store.dims == 2:
            self.half_size = np.stack([store.columns["width"], store.columns["height"]], axis=1) / 2
            unknown = members[(self.half_size[members] <= 0).any(axis=1)]
            if len(unknown):
                raise DataError(f"sample {store.ids[unknown[0]]}: the size of its image (height, width) is not known")

    @property
    def coordinates(self) -> int:
        return self.in_channels if self.half_size is None else 2

    @property
    def vertical(self) -> int:
        """See StoreFeeder; z, along which PYSKL's preparation turns the spine."""
        return 2

    def draw(self, size: int, rng: torch.Generator) -> PoseDraws:
        """Every number is drawn whether it is used or not, so that no option changes the numbers of another."""
        columns = [self.window_size + 1, 1, self.coordinates, 3 if self.coordinates == 3 else 1]
        frames, flip, scale, rotation = torch.rand(size, sum(columns), generator=rng).split(columns, dim=1)
        return PoseDraws(frames, flip[:, 0], scale, rotation)

    def view(
        self, members: np.ndarray, device: torch.device, draws: PoseDraws | None, stage: Stage = "input"
    ) -> Tensor:
        """x (N, C, T, V, M) of stored sequences; without draws (N * Q, C, T, V, M), the Q clips of each in turn."""
        lengths = self.store.lengths[members]
        if draws is None:
            frames, members = self.shown(lengths)[0], members.repeat(self.num_clips)
        else:
            frames = training_clips(lengths, self.window_size, draws.frames.double().numpy())
        if stage != "input":
            return self.poses(members, frames, device, draws, turned=stage != "frames")
        if not self.stream.endswith("motion"):
            return pose_stream(
                self.poses(members, frames, device, draws), None, self.layout, self.stream, self.coordinates
            )
        last = self.store.lengths[members][:, None] - 1
        both = np.concatenate([frames, np.minimum(frames + 1, last)], axis=1)
        return self._motion(self.poses(members, both, device, draws), to_device(frames < last, device))

    def _motion(self, x: Tensor, moving: Tensor) -> Tensor:
        """Motion from x (N, C, 2T, V, M), shown and following frames; 0 where there is none, not ``moving`` (N, T)."""
        now, following = x.chunk(2, dim=2)
        x = pose_stream(now, following, self.layout, self.stream, self.coordinates)
        return x * moving[:, None, :, None, None]

    def shown(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See StoreFeeder: the clips of each sequence in turn."""
        return np.concatenate([test_clips(int(n), self.window_size, self.num_clips) for n in lengths]), None

    def whole_view(self, whole: Whole) -> Tensor:
        """See StoreFeeder."""
        motion, last = self.stream.endswith("motion"), whole.length[:, None] - 1
        both = [whole.frames, torch.minimum(whole.frames + 1, last)]
        x = whole.read(torch.cat(both, 1) if motion else whole.frames)
        if whole.size is not None:
            x = in_image(x.contiguous(), whole.size.flip(1) / 2)
        if motion:
            return self._motion(x, whole.frames < last)
        return pose_stream(x, None, self.layout, self.stream, self.coordinates)

    def poses(
        self,
        members: np.ndarray,
        frames: np.ndarray,
        device: torch.device,
        draws: PoseDraws | None,
        turned: bool = True,
    ) -> Tensor:
        """Joints (N, C, T', V, M) of frames (N, T') of stored sequences: 2D in -1 .. 1 over the image, augmented."""
        x = self.read(members, frames, device).contiguous().float()
        if self.half_size is not None:
            x = in_image(x, to_device(torch.from_numpy(self.half_size[members]).to(x.dtype), device))
        return self.turn(x, draws) if turned else x

    def turn(self, x: Tensor, draws: PoseDraws | None) -> Tensor:
        """See StoreFeeder: flip, scale, rotation."""
        if draws is None:
            return x
        if self.flip:
            x = mirror(x, to_device(draws.flip, x.device) < self.flip, self.layout)
        if self.random_scale or self.random_rot:
            scale = 1 + (to_device(draws.scale, x.device) * 2 - 1) * self.random_scale
            x = turn_and_scale(x, (to_device(draws.rotation, x.device) * 2 - 1) * self.random_rot, scale)
        return x


class Feeder(PoseFeeder):
    """2D poses or 3D skeletons from a prepared store or PYSKL's annotation pickle.

    Args:
        data_path: a store written by ``tools.prepare_pose``, or PYSKL's annotation pickle, which is packed into a store
            beside it the first time.
        ann_file: PYSKL's name for the pickle.
        split: a split of that data, such as ``train``, ``val``, ``xsub_train``; not needed where there is only one.
        stream, window_size, num_clips, flip, random_scale, random_rot, repeat: see PoseFeeder.
        split_path: list of the sequences of a training split to use, one name (``frame_dir``) a line, such as BRL's
            long-tailed lists. No effect on other splits.
        layout: of the joints; by default the one with so many joints.
        box_thr, valid_ratio, img_shape, boxes: of ``ann_file``, see feeders.convert.recipe.Recipe.
        raw_folder: of ``ann_file``: where its raw files lie; by default beside it.
        classes: of ``ann_file``: a file with the names of all classes, one a line.
        on_bad_sample: error or skip, see StoreFeeder; skip also ignores unknown names in ``split_path``.
        bad_value_limit: see StoreFeeder.
        cache_dir: where the store of a pickle lies; by default beside it.

    Raises:
        DataError: data or lists that are missing or damaged, no such split.
    """

    recipe: Mapping[str, Any] = {}  # plain values of that by which annotations became sequences, where it is known

    def __init__(
        self,
        data_path: str | None = None,
        ann_file: str | None = None,
        split: str | None = None,
        stream: str = "joint",
        window_size: int = 100,
        num_clips: int = 1,
        flip: float = 0.0,
        random_scale: float = 0.0,
        random_rot: float = 0.0,
        repeat: int = 1,
        split_path: str | None = None,
        layout: str | Mapping[str, Any] | None = None,
        box_thr: float | None = None,
        valid_ratio: float | None = None,
        img_shape: Sequence[int] | None = None,
        boxes: Boxes = "best",
        raw_folder: str | None = None,
        classes: str | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        bad_value_limit: float = BAD_VALUE_LIMIT,
        cache_dir: str | None = None,
    ) -> None:
        if (data_path is None) == (ann_file is None):
            raise DataError("give either data_path, a store written by tools.prepare_pose, or ann_file, PYSKL's pickle")
        ann_file = data_path if data_path is not None and Path(data_path).suffix in PICKLES else ann_file
        skeleton = None if layout is None else SkeletonLayout.get(layout)
        if ann_file is not None:
            size = None if img_shape is None else (int(img_shape[0]), int(img_shape[1]))
            folder = raw_folder or str(Path(ann_file).resolve().parent)
            recipe = Recipe(skeleton, box_thr or 0.0, valid_ratio or 0.0, size, folder, boxes)
            store, self.recipe = open_annotations(Path(ann_file), recipe, classes, cache_dir), recipe.plain()
        else:
            store = _open_store(Path(str(data_path)))
            self.recipe = store.meta.get("recipe", {})
        split = choose_split(store, split)
        members = np.flatnonzero(store.columns[f"in {split}"])
        if split_path is not None and is_training(split):
            skip, place = on_bad_sample == "skip", f"split {split} of {store.path}"
            members = np.sort(listed_rows(Path(split_path), store.ids, members, place, skip))
        super().__init__(
            store, members, skeleton or SkeletonLayout.get(store.meta["layout"]), store.meta["class_names"], split,
            is_training(split), stream, window_size, repeat, on_bad_sample=on_bad_sample,
            bad_value_limit=bad_value_limit, num_clips=num_clips, flip=flip, random_scale=random_scale,
            random_rot=random_rot,
        )  # fmt: skip

    @classmethod
    def as_stored(cls, frames: np.ndarray, dims: int) -> np.ndarray:
        """See StoreFeeder; 3D skeletons are centred and turned as those of PYSKL's annotations."""
        return frames if dims == 2 else prepare_skeleton(frames.swapaxes(0, 1), frames.shape[1])

    def view_state(self) -> dict[str, Any]:
        """See StoreFeeder; and how annotations become sequences, see feeders.convert.recipe.Recipe."""
        return super().view_state() | {"recipe": self.recipe}

    @classmethod
    def whole_set(
        cls, path: Path, state: Mapping[str, Any], size: tuple[int, int] | None = None
    ) -> Iterator[Sample] | None:
        """See StoreFeeder: an annotation pickle."""
        if path.suffix.lower() not in PICKLES:
            return None
        recipe = Recipe.of(state.get("recipe", {}), SkeletonLayout.get(state["layout"]), str(path.parent))
        poses = read_poses(path, recipe if size is None else replace(recipe, img_shape=size), labelled=False)
        return map(read_pose, poses.poses)


def in_image(x: Tensor, half: Tensor) -> Tensor:
    """x (N, 3, T, V, M), changed: pixels to -1 .. 1 over images of half width and height (N, 2); 0 where not seen."""
    x[:, :2].div_(half[:, :, None, None, None]).sub_(1).mul_(x[:, 2:] > MIN_SCORE)
    return x


def choose_split(store: SkeletonStore, split: str | None) -> str:
    """The split of a store by name; without a name the only one, or ``train``. DataError where there is none."""
    there: list[str] = store.meta["splits"]
    if split is None:
        split = there[0] if len(there) == 1 else "train"
    if split not in there:
        raise DataError(f"{store.path} has no split {split!r}; there are {', '.join(there)}")
    return split


def open_annotations(
    path: Path, recipe: Recipe, classes: str | None = None, cache_dir: str | None = None
) -> SkeletonStore:
    """The store of an annotation pickle; packed again when the pickle has changed."""
    if not path.is_file():
        raise DataError(f"annotation file {path} {kind_of(path)}; set ann_file to PYSKL's pickle")
    names = None if classes is None else read_class_names(Path(classes))
    name = f"{path.stem}-{fingerprint_files([], recipe, names)}"  # recipes may differ between splits
    where = cache_folders(path, cache_dir), name, fingerprint_files([path])
    packed = SkeletonStore.find(*where)
    if packed is not None:
        return packed
    poses = read_poses(path, recipe, names)
    return SkeletonStore.build(*where, lambda: map(read_pose, poses.poses), source=path, **poses.meta())


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

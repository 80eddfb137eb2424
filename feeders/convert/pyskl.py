"""PYSKL's annotation pickles: 2D poses of Kinetics-400, NTU, UCF101, HMDB51, Gym, Diving48 or your own -> sequences.

A pickle is a dict of ``split`` (name -> names of sequences) and ``annotations``, a list of dicts with ``frame_dir``
(the name), ``label``, ``img_shape`` (height, width), ``total_frames`` and either ``keypoint`` (M, T, V, 2) with
``keypoint_score`` (M, T, V), or, as for Kinetics-400, boxes: ``keypoint`` (B, V, 3), ``frame_inds`` (B,), ``box_score``
(B,) and perhaps ``anno_inds``, the boxes to use. ``raw_file`` names another pickle, of name -> ``keypoint``. See
docs/method.md, "Official files".

Shapes: M people, T or L frames, V joints, B boxes, C = 3: x, y in pixels and score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from shapmix.skeleton import LAYOUTS, SkeletonLayout

from ..store import DataError, Sample
from .pickles import load_restricted
from .prepare import Unusable

MAX_PEOPLE = 2


def is_training(split: str) -> bool:
    """Whether a split is a training set, by its name in PYSKL's files: ``train``, ``xsub_train``, ``train1``, ..."""
    return "train" in split


@dataclass(frozen=True)
class Recipe:
    """How annotations become sequences."""

    layout: SkeletonLayout
    box_thr: float = 0.0  # boxes with a lower score (0 .. 1) are not used
    valid_ratio: float = 0.0  # training sequences with boxes in a smaller share (0 .. 1) of the frames are not used
    img_shape: tuple[int, int] | None = None  # (height, width) of annotations that have none
    folder: str = "."  # where raw files lie


@dataclass(frozen=True)
class Pose:
    """One annotation, and the splits that hold it."""

    annotation: Mapping[str, Any]
    splits: Mapping[str, int]  # name -> 0 or 1
    recipe: Recipe


@dataclass(frozen=True)
class PoseSet:
    """The annotations of a pickle; ``labels`` are 0 .. K-1."""

    poses: list[Pose]
    splits: list[str]
    num_class: int

    def meta(self, recipe: Recipe, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Entries of the ``meta.json`` of their store: layout, class names, names of the splits."""
        layout = recipe.layout.name if recipe.layout.name in LAYOUTS else asdict(recipe.layout)
        names = list(class_names or (f"class {label}" for label in range(self.num_class)))
        return {"layout": layout, "class_names": names, "splits": self.splits}


def read_poses(path: Path, recipe: Recipe, num_class: int | None = None) -> PoseSet:
    """Reads and checks an annotation pickle; :func:`read_pose` checks its single sequences.

    Args:
        num_class: K, where some classes may have no sequences.

    Raises:
        DataError: no such pickle, names that occur twice, splits with unknown sequences, labels outside the classes.
    """
    content = load_restricted(path)
    if not isinstance(content, dict) or not {"split", "annotations"} <= content.keys():
        there = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(
            f"{path} holds {there or 'nothing'}; wanted a dict of split and annotations, as PYSKL writes it"
        )
    annotations, splits = content["annotations"], content["split"]
    if not isinstance(annotations, list) or not annotations or not isinstance(splits, dict):
        raise DataError(f"{path}: wanted a list of annotations, not empty, and a dict of splits")
    names = []
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or not {"frame_dir", "label"} <= annotation.keys():
            raise DataError(f"{path}: annotation {number} has no frame_dir or no label")
        names.append(str(annotation["frame_dir"]))
    again = [name for name, number in Counter(names).items() if number > 1]
    if again:
        raise DataError(f"{path}: {len(again)} names occur twice: {', '.join(again[:5])}")
    members = {str(split): {str(name) for name in listed} for split, listed in splits.items()}
    for split, listed in members.items():
        unknown = sorted(listed.difference(names))
        if unknown:
            raise DataError(
                f"{path}: split {split} names {len(unknown)} sequences without annotation: {', '.join(unknown[:5])}"
            )
    poses = [
        Pose(annotation, {split: int(name in listed) for split, listed in members.items()}, recipe)
        for name, annotation in zip(names, annotations, strict=True)
    ]
    poses.sort(key=lambda pose: str(pose.annotation.get("raw_file", "")))  # each raw file is read once
    return PoseSet(poses, list(members), _num_class(path, annotations, num_class))


def _num_class(path: Path, annotations: Sequence[Mapping[str, Any]], num_class: int | None) -> int:
    """K, and DataError where labels are no classes."""
    labels = set()
    for annotation in annotations:
        label = annotation["label"]
        if not isinstance(label, (int, np.integer)) or label < 0:
            raise DataError(f"{path}: {annotation['frame_dir']} has label {label!r}; wanted a class 0, 1, ...")
        labels.add(int(label))
    top = max(labels) + 1
    gaps = sorted(set(range(top)) - labels)
    if num_class is None and gaps:
        raise DataError(
            f"{path}: labels go up to {top - 1}, but {len(gaps)} of them do not occur: "
            f"{', '.join(map(str, gaps[:5]))}. Renumber them, or name all classes with --classes FILE"
        )
    if num_class is not None and top > num_class:
        raise DataError(f"{path}: labels go up to {top - 1}, but there are {num_class} class names")
    return num_class or top


def read_pose(pose: Pose) -> Sample:
    """One annotation as a sequence of up to two people; an error in it becomes the sample's ``problem``."""
    annotation, recipe = pose.annotation, pose.recipe
    name, label = str(annotation["frame_dir"]), int(annotation["label"])
    columns = {f"in {split}": inside for split, inside in pose.splits.items()} | {"height": 0, "width": 0}
    try:
        height, width = _img_shape(annotation, recipe)
        frames = _frames(annotation, recipe, any(is_training(split) for split, inside in pose.splits.items() if inside))
    except DataError as error:
        return Sample(name, label, problem=str(error), columns=columns)
    except (IndexError, TypeError, ValueError) as error:
        return Sample(name, label, problem=f"damaged: {error}", columns=columns)
    return Sample(name, label, frames, columns={**columns, "height": height, "width": width})


def _img_shape(annotation: Mapping[str, Any], recipe: Recipe) -> tuple[int, int]:
    shape = annotation.get("img_shape", recipe.img_shape)
    if shape is None:
        raise Unusable("no image size: the annotation has no img_shape; give --img_shape HEIGHT WIDTH")
    height, width = (int(size) for size in np.asarray(shape).reshape(-1)[:2])
    if height < 1 or width < 1:
        raise Unusable(f"no image size: img_shape is {height} x {width}")
    return height, width


def _frames(annotation: Mapping[str, Any], recipe: Recipe, training: bool) -> np.ndarray:
    """(L, M, V, C) of an annotation in either form."""
    values, raw_file = annotation.get("keypoint"), annotation.get("raw_file")
    if values is None and raw_file is not None:
        values = _raw(str(raw_file), recipe.folder).get(str(annotation["frame_dir"]))
    if values is None:
        reason = f"{raw_file} does not hold this sequence" if raw_file else "the annotation has no keypoint or raw_file"
        raise Unusable(f"no keypoints: {reason}")
    keypoints, layout, boxes = _numbers("keypoint", values), recipe.layout, "frame_inds" in annotation
    if keypoints.ndim != (3 if boxes else 4) or keypoints.shape[-1] != (3 if boxes else 2):
        wanted = "(boxes, joints, 3) beside frame_inds" if boxes else "(people, frames, joints, 2)"
        raise Unusable(f"bad shape: keypoint is {keypoints.shape}, wanted {wanted}")
    if keypoints.shape[-2] != layout.num_joints:
        raise Unusable(
            f"other joints: {keypoints.shape[-2]} joints, layout {layout.name} has {layout.num_joints}; name theirs "
            "with --layout"
        )
    keypoints = keypoints.astype(np.float16 if keypoints.dtype == np.float16 else np.float32, copy=False)
    return _from_boxes(annotation, recipe, keypoints, training) if boxes else _from_people(annotation, keypoints)


def _from_people(annotation: Mapping[str, Any], keypoints: np.ndarray) -> np.ndarray:
    """The two people with the largest scores of ``keypoint`` (M, T, V, 2) and ``keypoint_score`` (M, T, V)."""
    if "keypoint_score" not in annotation:
        raise Unusable("no scores: the annotation has no keypoint_score")
    scores = _numbers("keypoint_score", annotation["keypoint_score"])
    if scores.shape != keypoints.shape[:-1]:
        raise Unusable(f"bad shape: keypoint_score is {scores.shape}, keypoint {keypoints.shape}")
    people, frames = keypoints.shape[:2]
    if frames == 0 or people == 0:
        raise Unusable(f"{'no frames' if frames == 0 else 'no people'}: keypoint is {keypoints.shape}")
    best = np.sort(np.argsort(-scores.sum(axis=(1, 2), dtype=np.float64), kind="stable")[:MAX_PEOPLE])
    joined = np.concatenate([keypoints[best], scores[best, ..., None]], axis=-1)
    padded = np.zeros((frames, MAX_PEOPLE, *joined.shape[2:]), keypoints.dtype)
    padded[:, : len(best)] = joined.transpose(1, 0, 2, 3)
    return padded


def _from_boxes(annotation: Mapping[str, Any], recipe: Recipe, keypoints: np.ndarray, training: bool) -> np.ndarray:
    """The two boxes with the largest scores in each frame; frames without boxes are removed."""
    place = _numbers("frame_inds", annotation["frame_inds"]).astype(np.int64)
    scores = _numbers("box_score", annotation.get("box_score", np.ones(len(place))))
    if not len(keypoints) == len(place) == len(scores):
        raise Unusable(
            f"bad shape: {len(keypoints)} boxes in keypoint, {len(place)} in frame_inds, {len(scores)} in box_score"
        )
    used = scores >= recipe.box_thr
    if "anno_inds" in annotation:
        named = np.zeros(len(place), bool)
        named[np.asarray(annotation["anno_inds"])] = True
        used &= named
    if not used.any():
        raise Unusable(f"no people: none of {len(place)} boxes has a score of {recipe.box_thr:g}")
    total = int(annotation.get("total_frames", place.max() + 1))
    share = len(np.unique(place[used])) / max(total, 1)
    if training and share < recipe.valid_ratio:
        raise Unusable(f"too few boxes: in {share:.2f} of the frames, wanted {recipe.valid_ratio:g}")
    place, scores, keypoints = place[used], scores[used], keypoints[used]
    order = np.lexsort([-scores, place])
    frame = np.unique(place[order], return_inverse=True)[1]
    rank = np.arange(len(order)) - np.searchsorted(frame, frame)
    kept = rank < MAX_PEOPLE
    frames = np.zeros((frame[-1] + 1, MAX_PEOPLE, *keypoints.shape[1:]), keypoints.dtype)
    frames[frame[kept], rank[kept]] = keypoints[order][kept]
    return frames


def _numbers(key: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise Unusable(f"bad type: {key} holds {array.dtype}, wanted numbers")
    return array


@lru_cache(maxsize=2)
def _raw(file: str, folder: str) -> Mapping[str, Any]:
    """The keypoints of many sequences, by name. A file that does not exist is looked for in ``folder``."""
    places = [Path(file), Path(folder) / file, Path(folder) / Path(file).name]
    for place in places:
        if place.is_file():
            try:
                content = load_restricted(place)
            except DataError as error:
                raise Unusable(f"no raw file: {error}") from error
            if not isinstance(content, dict):
                raise Unusable(f"no raw file: {place} holds a {type(content).__name__}, wanted a dict of keypoints")
            return content
    raise Unusable(f"no raw file: {file} does not exist, also not in {folder}; name its folder with --raw_folder")

"""PYSKL's annotation pickles: NTU's 3D skeletons, 2D poses of Kinetics-400, NTU and others, or your own -> sequences.

A pickle is a dict of ``split`` (name -> names of sequences) and ``annotations``, a list of dicts with ``frame_dir``
(the name), ``label``, ``total_frames`` and one of

* 3D: ``keypoint`` (M, T, V, 3), prepared as feeders.convert.pyskl_3d has it;
* 2D: ``keypoint`` (M, T, V, 2), ``keypoint_score`` (M, T, V), ``img_shape`` (height, width);
* boxes, as for Kinetics-400: ``keypoint`` (B, V, 3), ``frame_inds`` (B,), ``box_score`` (B,), ``img_shape`` and perhaps
  ``anno_inds``, the boxes to use. ``raw_file`` names another pickle: name -> ``keypoint`` or a dict that has it.

A bare list of annotations is one split, named as the file. See docs/method.md, "Official files".

Shapes: M people, T or L frames, V joints, B boxes; C = 3: x, y in pixels and score, or x, y, z.
"""

from __future__ import annotations

import pickle
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shapmix.skeleton import LAYOUTS, SkeletonLayout

from ..store import DataError, Sample
from .pickles import load_restricted
from .prepare import Unusable
from .pyskl_3d import prepare_skeleton
from .recipe import Recipe

MAX_PEOPLE = 2
Form = Literal["2D", "3D", "boxes"]
WANTED: dict[Form, str] = {
    "2D": "(people, frames, joints, 2)",
    "3D": "(people, frames, joints, 3) without keypoint_score",
    "boxes": "(boxes, joints, 3) beside frame_inds",
}
PYSKLS_LAYOUTS = ("ntu25", "ucla20", "coco17")  # of the published pickles, where several layouts have so many joints
LISTS = (list, tuple, set, frozenset)


def is_training(split: str) -> bool:
    """Whether a split is a training set, by its name in PYSKL's files: ``train``, ``xsub_train``, ``train1``, ..."""
    return "train" in split


@dataclass(frozen=True)
class Pose:
    """One annotation, the splits that hold it, and what all annotations of the set have in common."""

    annotation: Mapping[str, Any]
    splits: Mapping[str, int]  # name -> 0 or 1
    recipe: Recipe
    layout: SkeletonLayout
    depth: bool = False  # the set is of 3D skeletons


@dataclass(frozen=True)
class PoseSet:
    """The annotations of a pickle; labels are 0 .. K-1."""

    poses: list[Pose]
    splits: list[str]
    class_names: list[str]

    def meta(self) -> dict[str, Any]:
        """Entries of the ``meta.json`` of their store: layout, class names, names of the splits, recipe."""
        first = self.poses[0]
        return {
            "layout": first.layout.plain(), "class_names": self.class_names, "splits": self.splits,
            "recipe": first.recipe.plain(),
        }  # fmt: skip


def read_poses(path: Path, recipe: Recipe, class_names: Sequence[str] | None = None, labelled: bool = True) -> PoseSet:
    """Reads and checks an annotation pickle; :func:`read_pose` checks its single sequences.

    The numbers stay in the file until :func:`read_pose` wants them.

    Args:
        class_names: of all K classes, where some may have no sequences.
        labelled: labels are asked for; else all have the label 0.

    Raises:
        DataError: no such pickle, names that occur twice, splits with unknown sequences, labels outside the classes.
    """
    where, annotations, splits = _contents(path)
    if not labelled:
        annotations = [{**one, "label": 0} if isinstance(one, dict) else one for one in annotations]
    names = [_name(where, number, annotation) for number, annotation in enumerate(annotations)]
    again = [name for name, number in Counter(names).items() if number > 1]
    if again:
        raise DataError(f"{where}: {len(again)} names occur twice: {', '.join(again[:5])}")
    known = set(names)
    members = {str(split): _listed(where, str(split), listed, known) for split, listed in splits.items()}
    classes = _classes(where, annotations, class_names)
    depth, layout = _common(where, annotations, recipe.layout)
    poses = [
        Pose(annotation, {split: int(name in listed) for split, listed in members.items()}, recipe, layout, depth)
        for name, annotation in zip(names, annotations, strict=True)
    ]
    poses.sort(key=lambda pose: str(pose.annotation.get("raw_file", "")))  # each raw file is read once
    return PoseSet(poses, list(members), classes)


def _contents(path: Path) -> tuple[str, list[Any], Mapping[Any, Any]]:
    """What messages call a pickle, its annotations and its splits."""
    content = load_restricted(path, deferred=True)
    if isinstance(content, list) and content:
        where = f"{path} (a bare list of annotations: one split, {path.stem})"
        return where, content, {path.stem: [one.get("frame_dir") for one in content if isinstance(one, dict)]}
    if not isinstance(content, dict) or not {"split", "annotations"} <= content.keys():
        there = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(
            f"{path} holds {there[:200] or 'nothing'}; wanted a dict of split and annotations, as PYSKL writes it"
        )
    annotations, splits = content["annotations"], content["split"]
    if not isinstance(annotations, list) or not annotations or not isinstance(splits, dict):
        raise DataError(f"{path}: wanted a list of annotations, not empty, and a dict of splits")
    return str(path), annotations, splits


def _name(where: str, number: int, annotation: Any) -> str:
    """The name of an annotation, the first of which has number 0; DataError where it has none, or no label."""
    if not isinstance(annotation, dict):
        raise DataError(f"{where}: annotation {number} is a {type(annotation).__name__}, wanted a dict")
    name = annotation.get("frame_dir")
    if not isinstance(name, (str, int, np.integer)) or name == "":
        label = reprlib.repr(annotation.get("label"))
        raise DataError(
            f"{where}: annotation {number} (label {label}) has no frame_dir that names it, but {reprlib.repr(name)}"
        )
    if "label" not in annotation:
        raise DataError(f"{where}: {name} (annotation {number}) has no label")
    return str(name)


def _listed(where: str, split: str, listed: Any, known: set[str]) -> set[str]:
    """The names in a split; DataError where it is no list, or names what is not there."""
    if not isinstance(listed, LISTS) and len(_shape(listed)) != 1:
        raise DataError(f"{where}: split {split} is {reprlib.repr(listed)}; wanted a list of names (frame_dir)")
    names = {str(name) for name in (listed if isinstance(listed, LISTS) else np.asarray(listed).tolist())}
    unknown = sorted(names - known)
    if unknown:
        raise DataError(
            f"{where}: split {split} names {len(unknown)} sequences without annotation: {', '.join(unknown[:5])}"
        )
    return names


def _classes(where: str, annotations: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> list[str]:
    """Names of the classes; DataError where labels are no classes."""
    labels: dict[int, str] = {}  # label -> the first sequence that has it
    for annotation in annotations:
        label, name = annotation["label"], str(annotation["frame_dir"])
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < 0:
            raise DataError(f"{where}: {name} has label {reprlib.repr(label)}; wanted a class 0, 1, ...")
        labels.setdefault(int(label), name)
    top = max(labels)
    if names is not None and top >= len(names):
        raise DataError(f"{where}: labels go up to {top}, but there are {len(names)} class names ({labels[top]})")
    absent = top + 1 - len(labels)
    if names is None and absent:
        first = [label for label in range(min(top, len(labels) + 5)) if label not in labels][:5]
        far = f", far more than its {len(annotations)} sequences" if top > 10 * len(annotations) else ""
        raise DataError(
            f"{where}: labels go up to {top} ({labels[top]}){far}, but {absent} of them do not occur: "
            f"{', '.join(map(str, first))}. Renumber them, or give classes: a file with the names of all classes"
        )
    return list(names or (f"class {label}" for label in range(top + 1)))


def _common(
    where: str, annotations: Sequence[Mapping[str, Any]], layout: SkeletonLayout | None
) -> tuple[bool, SkeletonLayout]:
    """Whether most annotations are 3D skeletons, and their layout: the given one, or the one with so many joints."""
    shapes = [_shape(annotation.get("keypoint")) for annotation in annotations]
    forms = Counter(_form(one, shape) == "3D" for one, shape in zip(annotations, shapes, strict=True) if shape)
    joints = Counter(shape[-2] for shape in shapes if len(shape) >= 3)
    depth = bool(forms) and forms.most_common(1)[0][0]
    if layout is not None:
        return depth, layout
    number = joints.most_common(1)[0][0] if joints else LAYOUTS["coco17"].num_joints
    fitting = [known for known in LAYOUTS.values() if known.num_joints == number]
    pyskls = [known for known in fitting if known.name in PYSKLS_LAYOUTS]
    if len(pyskls or fitting) == 1:
        return depth, (pyskls or fitting)[0]
    name = next(one["frame_dir"] for one, shape in zip(annotations, shapes, strict=True) if shape[-2:-1] == (number,))
    names = ", ".join(known.name for known in (fitting or LAYOUTS.values()))
    raise DataError(
        f"{where}: {name} has {number} joints, as {'have' if fitting else 'none of'} {names}; name theirs with "
        "--layout, or describe them in a YAML file for it"
    )


def _form(annotation: Mapping[str, Any], shape: tuple[int, ...]) -> Form:
    """What an annotation whose ``keypoint`` has this shape is, or is meant to be."""
    if "frame_inds" in annotation:
        return "boxes"
    return "3D" if len(shape) == 4 and shape[-1] == 3 and "keypoint_score" not in annotation else "2D"


def _shape(values: Any) -> tuple[int, ...]:
    """The shape of an array, or of nested lists by the first of each; () where there are none."""
    if hasattr(values, "shape"):
        return tuple(values.shape)
    return (len(values), *(_shape(values[0]) if values else ())) if isinstance(values, (list, tuple)) else ()


def read_class_names(path: Path) -> list[str]:
    """Names of all classes, one a line, in the order of the labels.

    Raises:
        DataError: no such file, a name that occurs twice.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"classes {path} cannot be read ({error})") from error
    if len(set(names)) < len(names):
        raise DataError(f"classes {path}: a name occurs twice")
    return names


def read_pose(pose: Pose) -> Sample:
    """One annotation as a sequence of up to two people; an error in it becomes the sample's ``problem``."""
    annotation = pose.annotation
    name, label = str(annotation["frame_dir"]), int(annotation["label"])
    columns = {f"in {split}": inside for split, inside in pose.splits.items()}
    if not pose.depth:
        columns |= {"height": 0, "width": 0}
    try:
        frames = _frames(pose)
        if not pose.depth:
            columns["height"], columns["width"] = image_size(annotation, pose.recipe)
    except DataError as error:
        return Sample(name, label, problem=str(error), columns=columns)
    except (IndexError, OSError, TypeError, ValueError, pickle.UnpicklingError) as error:
        return Sample(name, label, problem=f"damaged: {error}", columns=columns)
    return Sample(name, label, frames, columns=columns)


def image_size(annotation: Mapping[str, Any], recipe: Recipe) -> tuple[int, int]:
    """(height, width) of an annotation's image; Unusable where neither it nor the recipe says it."""
    shape = annotation.get("img_shape")
    shape = recipe.img_shape if shape is None else shape
    if shape is None:
        raise Unusable("no image size: the annotation has no img_shape; give img_shape: height and width")
    height, width = (int(size) for size in np.asarray(shape).reshape(-1)[:2])
    if height < 1 or width < 1:
        raise Unusable(f"no image size: img_shape is {height} x {width}")
    return height, width


def _frames(pose: Pose) -> np.ndarray:
    """(L, M, V, C) of an annotation in any form."""
    form, keypoints = keypoints_of(pose)
    if form == "boxes":
        training = any(is_training(split) for split, inside in pose.splits.items() if inside)
        return _from_boxes(pose.annotation, pose.recipe, keypoints, training)
    return prepare_skeleton(keypoints, MAX_PEOPLE) if form == "3D" else _from_people(pose.annotation, keypoints)


def keypoints_of(pose: Pose) -> tuple[Form, np.ndarray]:
    """The form of an annotation, and its keypoints as they are, in half or single precision.

    Raises:
        Unusable: no keypoints, or another shape or number of joints than the set has.
    """
    annotation, layout = pose.annotation, pose.layout
    values = _keypoint(annotation, pose.recipe.folder)
    shape = _shape(values)
    _check_type("keypoint", values)
    form = _form(annotation, shape)
    wanted: Form = "3D" if pose.depth else "boxes" if form == "boxes" else "2D"
    if form != wanted or len(shape) != (3 if form == "boxes" else 4) or shape[-1] != (2 if form == "2D" else 3):
        raise Unusable(f"bad shape: keypoint is {shape}, wanted {WANTED[wanted]}")
    if shape[-2] != layout.num_joints:
        raise Unusable(
            f"other joints: {shape[-2]} joints, layout {layout.name} has {layout.num_joints}; theirs is another layout"
        )
    keypoints = numbers_of("keypoint", values)
    keypoints = keypoints.astype(np.float16 if keypoints.dtype == np.float16 else np.float32, copy=False)
    if form != "boxes" and 0 in shape[:2]:
        raise Unusable(f"{'no frames' if shape[1] == 0 else 'no people'}: keypoint is {shape}")
    return form, keypoints


def _keypoint(annotation: Mapping[str, Any], folder: str) -> Any:
    """The keypoints of an annotation, or of its raw file."""
    values, raw_file = annotation.get("keypoint"), annotation.get("raw_file")
    if values is None and raw_file is not None:
        values = _raw(str(raw_file), folder).get(str(annotation["frame_dir"]))
        values = values.get("keypoint") if isinstance(values, dict) else values
    if values is None:
        reason = f"{raw_file} does not hold this sequence" if raw_file else "the annotation has no keypoint or raw_file"
        raise Unusable(f"no keypoints: {reason}")
    return values


def _from_people(annotation: Mapping[str, Any], keypoints: np.ndarray) -> np.ndarray:
    """The two people with the largest scores of ``keypoint`` (M, T, V, 2) and ``keypoint_score`` (M, T, V)."""
    if "keypoint_score" not in annotation:
        raise Unusable("no scores: the annotation has no keypoint_score")
    scores = numbers_of("keypoint_score", annotation["keypoint_score"])
    if scores.shape != keypoints.shape[:-1]:
        raise Unusable(f"bad shape: keypoint_score is {scores.shape}, keypoint {keypoints.shape}")
    frames = keypoints.shape[1]
    best = np.sort(np.argsort(-scores.sum(axis=(1, 2), dtype=np.float64), kind="stable")[:MAX_PEOPLE])
    joined = np.concatenate([keypoints[best], scores[best, ..., None]], axis=-1)
    padded = np.zeros((frames, MAX_PEOPLE, *joined.shape[2:]), keypoints.dtype)
    padded[:, : len(best)] = joined.transpose(1, 0, 2, 3)
    return padded


def _from_boxes(annotation: Mapping[str, Any], recipe: Recipe, keypoints: np.ndarray, training: bool) -> np.ndarray:
    """Two boxes of each frame: those with the largest scores, or as published; frames without boxes are removed."""
    place = numbers_of("frame_inds", annotation["frame_inds"]).astype(np.int64)
    scores = numbers_of("box_score", annotation.get("box_score", np.ones(len(place))))
    if not len(keypoints) == len(place) == len(scores):
        raise Unusable(
            f"bad shape: {len(keypoints)} boxes in keypoint, {len(place)} in frame_inds, {len(scores)} in box_score"
        )
    best = recipe.boxes == "best"
    threshold = recipe.box_thr if best or (training and recipe.valid_ratio > 0) else 0.0
    used = scores >= threshold
    if "anno_inds" in annotation:
        named = np.zeros(len(place), bool)
        named[numbers_of("anno_inds", annotation["anno_inds"])] = True
        used &= named
    if not used.any():
        raise Unusable(f"no people: none of {len(place)} boxes has a score of {threshold:g}")
    total = int(annotation.get("total_frames", place.max() + 1))
    share = len(np.unique(place[used])) / max(total, 1)
    if training and share < recipe.valid_ratio:
        raise Unusable(f"too few boxes: in {share:.2f} of the frames, wanted {recipe.valid_ratio:g}")
    place, scores, keypoints = place[used], scores[used], keypoints[used]
    order = np.lexsort([-scores, place]) if best else np.argsort(place, kind="stable")
    frame = np.unique(place[order], return_inverse=True)[1]
    rank = np.arange(len(order)) - np.searchsorted(frame, frame)
    kept = rank < MAX_PEOPLE
    frames = np.zeros((frame[-1] + 1, MAX_PEOPLE, *keypoints.shape[1:]), keypoints.dtype)
    frames[frame[kept], rank[kept]] = keypoints[order][kept]
    return frames


def numbers_of(key: str, values: Any) -> np.ndarray:
    """The values of a key as an array; Unusable where they are no numbers."""
    if isinstance(values, (list, tuple)):
        np.asarray(values, np.float64)  # an error at the first text; without a type numpy makes room for the longest
    array = np.asarray(values)
    _check_type(key, array)
    return array


def _check_type(key: str, values: Any) -> None:
    """Unusable where an array holds no numbers; lists are not looked at."""
    if getattr(values, "dtype", np.dtype(float)).kind not in "fiub":
        raise Unusable(f"bad type: {key} holds {values.dtype}, wanted numbers")


@lru_cache(maxsize=2)
def _raw(file: str, folder: str) -> Mapping[str, Any]:
    """The keypoints of many sequences, by name. A file that does not exist is looked for in ``folder``."""
    places = [Path(file), Path(folder) / file, Path(folder) / Path(file).name]
    for place in places:
        if place.is_file():
            try:
                content = load_restricted(place, deferred=True)
            except DataError as error:
                raise Unusable(f"no raw file: {error}") from error
            if not isinstance(content, dict):
                raise Unusable(f"no raw file: {place} holds a {type(content).__name__}, wanted a dict of keypoints")
            return content
    raise Unusable(f"no raw file: {file} does not exist, also not in {folder}; name its folder as raw_folder")

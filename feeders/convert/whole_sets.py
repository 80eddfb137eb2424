"""Whole sets in one file, CTR-GCN's ``.npz`` and PYSKL's pickles -> the same store as single files of the takes give.

Coordinates stay as they are in the file: unlike with tools.prepare_pose, nothing is centred or turned. Of more people
than are kept, those stay whom feeders.convert.sequences chooses.

Shapes: N takes, L frames, M people, V joints, B boxes; W columns of a frame.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from shapmix.skeleton import LAYOUTS, SkeletonLayout

from ..files import is_from_macos
from ..ntu_protocols import COLUMNS, NAME
from ..store import DataError, Sample, fingerprint_files
from ..zips import open_zip
from .axes import recording_of
from .ctrgcn_npz import KEYS, SPLITS, array_header, blocks, read_labels
from .people import Person, join_people
from .pickles import PICKLES
from .prepare import Unusable
from .pyskl import Pose, image_size, keypoints_of, numbers_of, read_class_names, read_poses
from .recipe import Recipe
from .recording import Hints, Recording
from .sequences import Conversion, Plan, sequence
from .understand import PEOPLE, Wishes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One take of an ``.npz`` file."""

    path: str
    split: str
    number: int
    label: int

    @property
    def name(self) -> str:
        """Its id."""
        return f"{self.split}_{self.number}"


def find_whole_set(place: Path) -> Path | None:
    """The file, or the only one of a folder, that holds a whole set; what else lies there is named in the log."""
    whole = find_whole_sets(place)
    if len(whole) > 1:
        raise DataError(f"{place} holds {len(whole)} whole sets; name one of them, such as {whole[0]}")
    others = [path for path in _files(place) if path not in whole] if whole and place.is_dir() else []
    if others:
        log.warning(
            "only %s is read, which is a whole set; not %d other files in %s, such as %s",
            whole[0], len(others), place, others[0].name,
        )  # fmt: skip
    return whole[0] if whole else None


def find_whole_sets(place: Path) -> list[Path]:
    """The file, or those in a folder, that hold whole sets."""
    return [path for path in (_files(place) if place.is_dir() else [place]) if is_whole_set(path)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not is_from_macos(path.name))


def is_whole_set(path: Path) -> bool:
    """Is this an ``.npz`` file of the arrays x_train, y_train, ..., or a pickle?"""
    if not path.is_file():
        return False
    if path.suffix.lower() in PICKLES:
        return True
    try:
        with open_zip(path) as archive:
            return any(f"{key}.npy" in archive.namelist() for key in KEYS)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def open_whole_set(path: Path, wishes: Wishes, classes: Path | None = None) -> Conversion:
    """A set in one file; the numbers stay in it until an item is read.

    Args:
        wishes: what the user says; without a layout it is the only known one with so many joints.
        classes: a file of the names of all classes, in the order of the labels.

    Raises:
        DataError: the file is missing, damaged or holds something else; no or several known layouts fit.
    """
    names = read_class_names(classes) if classes else None
    opened = _from_pickle if path.suffix.lower() in PICKLES else _from_npz
    return opened(path, wishes, names)


def _whole(
    path: Path,
    form: str,
    items: Sequence[Any],
    read: Callable[[Plan, Any], Sample],
    recording: Callable[[Any], Recording],
    plan: Plan,
    words: Mapping[str, str],
    known: Sequence[tuple[str, int]],
) -> Conversion:
    """A set whose items have these ids and labels."""
    layout = plan.layout
    words = {
        "form": form, **words, "skeleton": f"{layout.name}, {layout.num_joints} joints",
        "coordinates": str(plan.dims), "people": f"up to {plan.people}",
    }  # fmt: skip
    ids, labels = [name for name, _ in known], [label for _, label in known]
    fingerprint, meta = fingerprint_files([path], plan), plan.meta(form)
    return Conversion(
        items, partial(read, plan), fingerprint, words, meta, ids=ids, labels=labels, recording=recording
    )  # fmt: skip


def _sample(plan: Plan, name: str, label: int, known: Mapping[str, int], recording: Callable[[], Recording]) -> Sample:
    """A take as a sequence of the store; an error in it becomes the sample's ``problem``."""
    columns = {"subject": -1, "view": -1, **known, "people": 0, "filled": 0, "removed": 0}
    if plan.dims == 2:
        columns |= {"height": 0, "width": 0}
    try:
        frames, found = sequence(recording(), plan)
    except DataError as error:
        return Sample(name, label, problem=str(error), columns=columns)
    return Sample(name, label, frames, columns={**columns, **found})


# --- PYSKL's pickles -------------------------------------------------------------------------------------------------


def _from_pickle(path: Path, wishes: Wishes, names: Sequence[str] | None) -> Conversion:
    recipe = Recipe(wishes.layout, img_shape=wishes.size, folder=str(path.parent))
    poses = read_poses(path, recipe, names, wishes.labelled)
    dims, people = 3 if poses.poses[0].depth else 2, wishes.people or PEOPLE
    shapes: list[tuple[int, ...]] = [getattr(pose.annotation.get("keypoint"), "shape", ()) for pose in poses.poses]
    people = min(people, max(shape[0] if len(shape) == 4 else people for shape in shapes))
    known = [_ntu(str(pose.annotation["frame_dir"])) for pose in poses.poses]
    subjects, views = (tuple(sorted({one[key] for one in known if one})) for key in ("subject", "camera"))
    plan = Plan(
        poses.poses[0].layout, dims, max(people, 1), Hints(), tuple(poses.class_names), subjects, views,
        tuple(poses.splits), wishes.size, wishes.max_missing, wishes.min_frames, wishes.to_look_at,
    )  # fmt: skip
    named = [(str(pose.annotation["frame_dir"]), int(pose.annotation["label"])) for pose in poses.poses]
    return _whole(path, f"PYSKL {dims}D", poses.poses, _read_pose, _pose, plan, {"labels": "the annotations"}, named)


def _ntu(name: str) -> dict[str, str]:
    """What the name of an NTU sequence says; empty where it is none."""
    match = NAME.fullmatch(name)
    return dict(zip(COLUMNS, match.groups(), strict=True)) if match else {}


def _read_pose(plan: Plan, pose: Pose) -> Sample:
    name = str(pose.annotation["frame_dir"])
    known = {f"in {split}": inside for split, inside in pose.splits.items()}
    if said := _ntu(name):
        known |= {"subject": plan.subjects.index(said["subject"]), "view": plan.views.index(said["camera"])}
    return _sample(plan, name, int(pose.annotation["label"]), known, partial(_pose, pose))


def _pose(pose: Pose) -> Recording:
    """An annotation as it is; Unusable where it is damaged."""
    try:
        return _annotated(pose)
    except (IndexError, OSError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise Unusable(str(error) if isinstance(error, DataError) else f"damaged: {error}") from error


def _annotated(pose: Pose) -> Recording:
    form, keypoints = keypoints_of(pose)
    hints, annotation = Hints(pose.layout.num_joints, 3 if form == "3D" else 2, "MTVC"), pose.annotation
    if form == "3D":
        return recording_of(keypoints, hints)
    size = image_size(annotation, pose.recipe) if annotation.get("img_shape") is not None else None
    if form == "boxes":
        return recording_of(_boxes(annotation, keypoints), Hints(hints.num_joints, 2, "TMVC"), size=size)
    if "keypoint_score" in annotation:
        scores = numbers_of("keypoint_score", annotation["keypoint_score"])
        if scores.shape != keypoints.shape[:-1]:
            raise Unusable(f"bad shape: keypoint_score is {scores.shape}, keypoint {keypoints.shape}")
        keypoints = np.concatenate([keypoints, scores[..., None]], axis=-1)
    return recording_of(keypoints, hints, size=size)


def _boxes(annotation: Mapping[str, Any], keypoints: np.ndarray) -> np.ndarray:
    """(L, M, V, 3): boxes (B, V, 3) over time; those with the largest scores of a frame first."""
    place = numbers_of("frame_inds", annotation["frame_inds"]).astype(np.int64)
    scores = numbers_of("box_score", annotation.get("box_score", np.ones(len(place))))
    if not len(keypoints) == len(place) == len(scores):
        raise Unusable(
            f"bad shape: {len(keypoints)} boxes in keypoint, {len(place)} in frame_inds, {len(scores)} in box_score"
        )
    used = np.arange(len(place))
    if "anno_inds" in annotation:
        used = used[numbers_of("anno_inds", annotation["anno_inds"])]
    frames = np.unique(place[used])
    if not len(frames):
        raise Unusable("no people: no box is used")
    inside: list[list[Person]] = [[] for _ in frames]
    for box in used[np.argsort(-scores[used], kind="stable")].tolist():
        joints = keypoints[box].astype(np.float64)
        joints[(joints[:, :2] == 0).all(axis=1)] = np.nan
        inside[int(np.searchsorted(frames, place[box]))].append(Person(joints))
    return join_people(inside, 2)


# --- CTR-GCN's .npz --------------------------------------------------------------------------------------------------


def _from_npz(path: Path, wishes: Wishes, names: Sequence[str] | None) -> Conversion:
    items: list[Row] = []
    widths: dict[str, int] = {}
    num_class = len(names or ())
    for split in SPLITS:
        shape = array_header(path, f"x_{split}")[0]
        labels, number = read_labels(path, f"y_{split}")
        if len(shape) != 3 or not all(shape[1:]) or shape[0] != len(labels):
            raise DataError(
                f"{path}: x_{split} has shape {shape}, y_{split} {len(labels)} labels; wanted (N, T, M * V * 3)"
            )
        items += [Row(str(path), split, row, label) for row, label in enumerate(labels.tolist())]
        widths[split] = shape[2]
        num_class = max(num_class, number)
    width = widths["train"]
    if widths["test"] != width:
        raise DataError(f"{path}: x_train has {width} columns, x_test {widths['test']}; wanted the same joints in both")
    if names is not None and num_class > len(names):
        raise DataError(f"{path}: labels go up to {num_class - 1}, but there are {len(names)} class names")
    chosen = wishes.layout or _layout(path, width)
    there = width // (3 * chosen.num_joints)
    if there * 3 * chosen.num_joints != width:
        raise DataError(f"{path}: {width} columns are no whole people of {chosen.num_joints} joints ({chosen.name})")
    classes = names or [f"class {label}" for label in range(num_class)]
    plan = Plan(
        chosen, 3, min(wishes.people or PEOPLE, there), Hints(), tuple(classes), splits=SPLITS,
        max_missing=wishes.max_missing, min_frames=wishes.min_frames, keeps_gaps=wishes.to_look_at,
    )  # fmt: skip
    named = [(item.name, item.label) for item in items]
    recording = partial(_recorded, chosen.num_joints)
    return _whole(path, "CTR-GCN's .npz", items, _read_row, recording, plan, {"labels": "y_train and y_test"}, named)


def _layout(path: Path, width: int) -> SkeletonLayout:
    """The only known layout of which W columns are two people, or else one."""
    for people in (2, 1):
        fitting = [layout for layout in LAYOUTS.values() if layout.num_joints * 3 * people == width]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            there = ", ".join(layout.name for layout in fitting)
            raise DataError(f"{path}: {width} columns can be {people} people of {there}; name the layout with --layout")
    raise DataError(f"{path}: {width} columns are two people, or one, of no known layout; name theirs with --layout")


def _read_row(plan: Plan, item: Row) -> Sample:
    known = {f"in {split}": int(item.split == split) for split in SPLITS}
    row = _row(item)
    return _sample(plan, item.name, item.label, known, lambda: _joints(plan.layout.num_joints, row))


def _recorded(joints: int, item: Row) -> Recording:
    """A row as it is; Unusable where nobody is there, DataError where the file is damaged."""
    return _joints(joints, _row(item))


def _row(item: Row) -> np.ndarray:
    return _rows(item.path, item.split, Path(item.path).stat().st_mtime_ns).at(item.number)


def _joints(joints: int, row: np.ndarray) -> Recording:
    there = np.flatnonzero(row.any(axis=1))
    if not len(there):
        raise Unusable(f"no people: all {len(row)} frames are 0")
    return recording_of(row[: there[-1] + 1].reshape(there[-1] + 1, -1, joints, 3), Hints(joints, 3, "TMVC"))


class _Rows:
    """Rows of an array that are asked for in order, from the block that was read last; each process reads its own."""

    def __init__(self, path: str, split: str) -> None:
        self.path, self.key = Path(path), f"x_{split}"
        self._again()

    def _again(self) -> None:
        self.first, self.block = 0, np.zeros((0,))
        self.blocks: Iterator[np.ndarray] = blocks(self.path, self.key)

    def at(self, number: int) -> np.ndarray:
        """(T, W) of one row; DataError where the file is damaged."""
        if number < self.first:
            self._again()
        while number >= self.first + len(self.block):
            self.first += len(self.block)
            self.block = next(self.blocks)
        return self.block[number - self.first]


@lru_cache(maxsize=2)
def _rows(path: str, split: str, changed: int) -> _Rows:
    return _Rows(path, split)

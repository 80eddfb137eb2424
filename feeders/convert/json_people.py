"""One frame of a JSON file of poses -> the people in it, in the spellings of the usual programs.

A person is a flat list of numbers, a list of [x, y, ...] or of {x, y, ...} (then perhaps with names), or joint names
with their positions. Above it lie keys such as ``people`` or ``keypoints``; MediaPipe's, OpenPose's, AlphaPose's,
MMPose's and TensorFlow's are known.

Shapes: V joints, C numbers of a joint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .prepare import Unusable
from .recording import Hints

DEEPEST = 8  # keys and lists in each other above a person
PEOPLE = ("people", "persons", "bodies", "instances", "skeletons", "poses", "predictions", "annotations", "objects")
WORLD = ("pose_world_landmarks", "poseWorldLandmarks", "world_landmarks", "worldLandmarks")
DEEP = ("pose_keypoints_3d", "keypoints3D", "keypoints_3d", *WORLD)  # 3D
FLAT = ("pose_keypoints_2d",)  # 2D
ANY: tuple[str, ...] = ("keypoints", "poseLandmarks", "pose_landmarks", "landmarks", "landmark", "joints", "skeleton")
ANY += ("joint_positions", "pose_keypoints", "pose", "positions")
HANDS: tuple[str, ...] = ("hand_left_keypoints_3d", "hand_right_keypoints_3d")
HANDS += ("hand_left_keypoints_2d", "hand_right_keypoints_2d")
HANDS += ("multiHandLandmarks", "multi_hand_landmarks", "hand_landmarks", "handLandmarks")
HANDS += ("left_hand_landmarks", "right_hand_landmarks", "leftHandLandmarks", "rightHandLandmarks")
FACES = ("face_keypoints_3d", "face_keypoints_2d", "face_landmarks", "faceLandmarks", "multiFaceLandmarks")
SCORE_LISTS = ("keypoint_scores", "keypoints_scores", "scores", "score", "confidence", "confidences")
SCORES = ("visibility", "score", "confidence", "likelihood", "inFrameLikelihood", "conf", "c", "v")
TRACKS = ("track_id", "idx", "person_id", "body_id", "tracking_id", "instance_id")
NAMES = ("name", "part", "joint")
INNER = ("position", "pos", "location")


@dataclass(eq=False)
class Found:
    """One person in one frame.

    Attributes:
        joints: (V, C).
        names: of the joints, or empty.
        dims: 2 or 3 where the key says it.
        scored: the last of the C numbers is known to be a score.
        landmarks: each joint is an object of x, y, ..., as MediaPipe has them.
        part: "body", "hand" or "face".
        track: who it is, where the file says it.
    """

    joints: np.ndarray
    names: tuple[str, ...] = ()
    dims: int | None = None
    scored: bool = False
    landmarks: bool = False
    part: str = "body"
    track: str | None = None


def people_in(frame: Any, hints: Hints, depth: int = 0) -> list[Found]:
    """The people in one frame; none where there are none.

    3D positions are preferred to 2D ones, unless ``hints.dims`` is 2. Hands and faces beside a body are left out.

    Raises:
        Unusable: something else than numbers, or too many containers in each other.
    """
    if depth > DEEPEST:
        raise Unusable(f"damaged: more than {DEEPEST} lists and keys above the joints")
    if isinstance(frame, Mapping):
        return _in_mapping(frame, hints, depth)
    if not isinstance(frame, list) or not frame:
        return []
    first = frame[0]
    if isinstance(first, Mapping) and _position(first) is not None:
        return [_landmarks(frame)]
    if is_number(first):
        return [_from_flat(frame, hints)]
    if isinstance(first, list) and 2 <= len(first) <= 4 and all(map(is_number, first)):
        return [Found(numbers(frame))]
    return [person for part in frame for person in people_in(part, hints, depth + 1)]


def is_number(value: Any) -> bool:
    """Is this a number of a joint? ``null`` counts: it is not seen."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def is_frame(value: Any) -> bool:
    """Does a JSON object or list look like the joints of one person or the people of one frame, not like a take?"""
    if isinstance(value, Mapping):
        keys = (*PEOPLE, *DEEP, *FLAT, *ANY, *HANDS, *FACES)
        return any(key in value for key in keys) or len(_named(value)) > 2
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    if isinstance(first, list):
        return 2 <= len(first) <= 4 and all(map(is_number, first))
    return is_number(first) or (isinstance(first, Mapping) and _position(first) is not None)


def numbers(value: Any) -> np.ndarray:
    """Nested lists as an array; Unusable where they are ragged or hold something else than numbers."""
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unusable(
            f"no numbers: joints with different numbers of coordinates, or other values ({error})"
        ) from error


def _in_mapping(frame: Mapping[str, Any], hints: Hints, depth: int) -> list[Found]:
    """The people below the first known key that holds something."""
    bodies = (*FLAT, *ANY, *DEEP) if hints.dims == 2 else (*DEEP, *FLAT, *ANY)
    for part, keys in (("people", PEOPLE), ("body", bodies), ("hand", HANDS), ("face", FACES)):
        there = [key for key in keys if frame.get(key)]
        found = [
            replace(person, dims=person.dims or _dims(key), part=part if part in ("hand", "face") else person.part)
            for key in (there if part == "hand" else there[:1])
            for person in people_in(_cut(key, frame[key]), hints, depth + 1)
        ]
        if found:
            return [_with_scores(found[0], frame)] if len(found) == 1 and part != "people" else found
    names = _named(frame)
    if len(names) < 3:
        return []
    rows = list(names.values())
    if len({len(row) for row in rows}) > 1:
        raise Unusable("no numbers: joints with different numbers of coordinates")
    return [Found(numbers(rows), tuple(names))]


def _dims(key: str) -> int | None:
    """2 or 3 where a key says it."""
    return 3 if key in DEEP or key.endswith("_3d") else 2 if key.endswith("_2d") else None


def _cut(key: str, value: Any) -> Any:
    """OpenPose's flat lists as rows: 3 numbers a joint in 2D, 4 in 3D."""
    step = (_dims(key) or 0) + 1 if key.endswith("d") and "_keypoints_" in key else 0
    if step and isinstance(value, list) and is_number(value[0]):
        if len(value) % step:
            raise Unusable(f"other joints: {key} holds {len(value)} numbers, which is no multiple of {step}")
        return [value[place : place + step] for place in range(0, len(value), step)]
    return value


def _with_scores(person: Found, frame: Mapping[str, Any]) -> Found:
    """A person with the scores and the name of its track that lie beside its joints."""
    track = next((str(frame[key]) for key in TRACKS if _is_track(frame.get(key))), None)
    scores = next((frame[key] for key in SCORE_LISTS if isinstance(frame.get(key), list)), None)
    joints, scored = person.joints, person.scored
    if scores is not None and not scored:
        column = numbers(scores).reshape(-1)
        if joints.shape[1] and joints.size % max(len(column), 1) == 0 and len(column):
            joints = np.concatenate([joints.reshape(len(column), -1), column[:, None]], axis=1)
            scored = True
    return replace(person, joints=joints, scored=scored, track=person.track or track)


def _is_track(value: Any) -> bool:
    """OpenPose writes -1, or [-1], for people whom it does not follow."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, str) or (isinstance(value, (int, float)) and value >= 0)


def _from_flat(values: Sequence[Any], hints: Hints) -> Found:
    """One person's numbers in a row: V is known, or each joint has 3 of them, or else 2."""
    joints, number = hints.num_joints, len(values)
    step = number // joints if joints and number % joints == 0 else 0
    if step not in (2, 3, 4):
        step = next((step for step in (3, 2) if number % step == 0), 0)
    if not step:
        raise Unusable(f"other joints: {number} numbers in a row, which is no multiple of 2 or 3")
    return Found(numbers(values).reshape(-1, step))


def _named(frame: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The joints of an object of joint names with their positions; empty where it is something else."""
    positions = {name: _position(value) for name, value in frame.items()}
    return {name: position for name, position in positions.items() if position is not None}


def _position(value: Any) -> list[Any] | None:
    """[x, y], [x, y, z], either perhaps with a score, of one joint; None where it is none."""
    if isinstance(value, list):
        return value if 2 <= len(value) <= 4 and all(map(is_number, value)) else None
    if not isinstance(value, Mapping):
        return None
    inner = next((value[key] for key in INNER if isinstance(value.get(key), Mapping)), value)
    known = {key.lower(): number for key, number in {**value, **inner}.items() if is_number(number)}
    if not {"x", "y"} <= known.keys():
        return None
    score = next((known[key.lower()] for key in SCORES if key.lower() in known), None)
    return [known[key] for key in "xyz" if key in known] + ([] if score is None else [score])


def _landmarks(values: Sequence[Any]) -> Found:
    """A person as a list of {x, y, ...}, all with the keys of the first."""
    first = values[0]
    inner = next((key for key in INNER if isinstance(first.get(key), Mapping)), None)
    named = next((key for key in NAMES if isinstance(first.get(key), str)), None)
    known = {key.lower(): key for key in (first[inner] if inner else first)}
    axes = [known[axis] for axis in "xyz" if axis in known]
    score = next(
        (key for name in SCORES for key in first if key.lower() == name.lower() and is_number(first[key])), None
    )
    try:
        rows = [[(value[inner] if inner else value)[axis] for axis in axes] for value in values]
        joints = numbers(
            rows if score is None else [[*row, value[score]] for row, value in zip(rows, values, strict=True)]
        )
        names = [str(value[named]) for value in values] if named else []
    except (AttributeError, KeyError, TypeError) as error:
        raise Unusable(f"no numbers: a landmark has not the keys of the first, {', '.join(first)} ({error})") from error
    unique = len(set(names)) == len(names)
    return Found(
        joints, tuple(names) if unique else (), 2 if len(axes) == 2 else None, score is not None, landmarks=True
    )

"""JSON files of poses: one file a frame (OpenPose, MediaPipe), or a whole take in one file or one line a frame.

A take is a list of frames; or ``frames``, ``skeletons`` (NW-UCLA), ``data`` (Kinetics-Skeleton), ``instance_info``
(MMPose); or an object with a frame's number as each key; or a list of people with ``image_id`` (AlphaPose); or
``images`` and ``annotations`` (COCO). What a frame may be is in feeders.convert.json_people. Who is who is found by
distance (feeders.convert.people) where the file does not say it. Frames are in the order of their numbers; where
numbers are missing, nobody is in these frames.

Shapes: L frames, M people, V joints, C numbers of a joint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..files import parse_json
from .axes import MANY, recording_of
from .json_people import ANY, DEEP, Found, is_frame, numbers, people_in
from .people import Person, join_people
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording

TAKES = ("frames", "instance_info", "sequence", "data", "skeletons")
NUMBERS = ("frame_index", "frame_id", "frame_number", "frame", "image_id")
LABELS = ("label", "action", "class")
PARTS = ("body", "hand", "face")
SPARSE = 10  # times as many frames as there are: numbers that lie farther apart are no numbers of frames
INSIDE = 0.75  # share of x and y in 0 .. 1 from which coordinates are shares of the image

Frames = list[tuple[Any, Any]]  # what says the number of a frame, and what it holds


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """One take; Unusable where it is damaged, holds no poses, or frames with different numbers of joints."""
    contents = [parse(source.read()) for source in sources]
    if len(contents) > 1:
        frames = [(source.name, content) for source, content in zip(sources, contents, strict=True)]
        return _from_frames(frames, hints, {})
    content = contents[0]
    facts = {}
    if isinstance(content, Mapping):
        label = next((content[key] for key in LABELS if isinstance(content.get(key), (str, int))), None)
        facts = {} if label is None else {"label": str(label)}
        if isinstance(content.get("annotations"), list) and isinstance(content.get("images"), list):
            return _from_coco(content, hints)
    frames, _ = frames_of(content)
    if isinstance(content, list) and hints.axes:
        return recording_of(numbers(content), hints, facts=facts)
    return _from_frames(frames, hints, facts)


def parse(content: bytes) -> Any:
    """What a file says: JSON, or JSON lines as a list. Unusable where it is damaged, with the line."""
    if not content.strip():
        raise Unusable(f"empty: {len(content)} bytes")
    try:
        return parse_json(content)
    except ValueError as error:
        whole = error
    lines = [line for line in content.splitlines() if line.strip()]
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(parse_json(line))
        except ValueError as error:
            reason = f"line {number}: {error}" if values else str(whole)
            raise Unusable(f"damaged: it is cut off or no JSON ({reason})") from error
    return values


def frames_of(content: Any) -> tuple[Frames, bool]:
    """The frames of a file, and whether it is one frame alone."""
    if isinstance(content, Mapping):
        for key in (*TAKES, *DEEP, *ANY):
            inner = content.get(key)
            if isinstance(inner, list) and inner and (key in TAKES[:-1] or _is_over_time(inner)):
                return _listed(inner), False
        numbered = [key for key in content if re.search(r"\d", str(key)) and isinstance(content[key], (list, Mapping))]
        if len(numbered) == len(content) and content and not is_frame(content):
            return [(key, content[key]) for key in numbered], False
        return [(None, content)], True
    if not isinstance(content, list) or not content:
        raise Unusable(f"no poses: it holds {'an empty list' if content == [] else type(content).__name__}")
    if is_frame(content):
        return [(None, content)], True
    return _listed(content), False


def _listed(values: Sequence[Any]) -> Frames:
    """Frames of a list; of people with the same ``image_id``, one frame."""
    first = values[0]
    key = next((key for key in NUMBERS if isinstance(first, Mapping) and isinstance(first.get(key), (int, str))), None)
    if key is None:
        return [(None, value) for value in values]
    grouped: dict[str, tuple[Any, list[Any]]] = {}
    for value in values:
        if not isinstance(value, Mapping) or key not in value:
            raise Unusable(f"damaged: a frame without {key}")
        grouped.setdefault(str(value[key]), (value[key], []))[1].append(value)
    return list(grouped.values())


def _is_over_time(values: list[Any]) -> bool:
    """Are these frames, not people: three lists in each other, or more lists of landmarks than people in a frame?"""
    depth, inner = 0, values
    while isinstance(inner, list) and inner:
        depth, inner = depth + 1, inner[0]
    return depth > 2 or (depth == 2 and isinstance(inner, Mapping) and len(values) > MANY)


def _from_frames(frames: Frames, hints: Hints, facts: Mapping[str, str]) -> Recording:
    """A take of frames as they are in the file."""
    places = frame_places([name for name, _ in frames])
    people: list[list[Found]] = [[] for _ in range(max(places) + 1)]
    for place, (_, frame) in zip(places, frames, strict=True):
        people[place] += people_in(frame, hints)
    everybody = [person for inside in people for person in inside]
    part = next((part for part in PARTS if any(person.part == part for person in everybody)), None)
    if part is None:
        raise Unusable(f"no people: in none of {len(people)} frames")
    return _joined([[person for person in inside if person.part == part] for inside in people], hints, facts)


def _joined(people: Sequence[Sequence[Found]], hints: Hints, facts: Mapping[str, str]) -> Recording:
    """A take of the people of each frame, all with the same joints."""
    everybody = [person for inside in people for person in inside]
    names = tuple(dict.fromkeys(name for person in everybody for name in person.names))
    if names:
        people = [[_by_name(person, names) for person in inside] for inside in people]
        everybody = [person for inside in people for person in inside]
    shapes = sorted({person.joints.shape for person in everybody})
    if len(shapes) > 1:
        raise Unusable(f"other joints: {shapes[0]} and {shapes[-1]} (joints, numbers of each) in one take")
    width, scored = shapes[0][1], all(person.scored for person in everybody)
    dims, size = _kind(everybody, width, scored, hints)
    for person in everybody:
        nowhere = (person.joints[:, :2] == 0).all(axis=1) if dims == 2 else np.zeros(len(person.joints), bool)
        person.joints[nowhere] = np.nan
    joined = join_people([[Person(person.joints, person.track) for person in inside] for inside in people], dims or 2)
    if dims == 2 and width > 2 + scored and all(person.landmarks for person in everybody):  # their depth is left out
        joined = joined[..., [0, 1, width - 1] if scored else [0, 1]]
    known = Hints(joined.shape[2], dims, "TMVC")
    return recording_of(joined, known, joint_names=names, size=size, facts=facts)


def _kind(
    everybody: Sequence[Found], width: int, scored: bool, hints: Hints
) -> tuple[int | None, tuple[int, int] | None]:
    """D, where the file shows it, and the size of the image, (1, 1) where x and y are shares of it."""
    said = {person.dims for person in everybody} - {None}
    coordinates = width - 1 if scored else width
    x = np.concatenate([person.joints[:, :2].ravel() for person in everybody])
    x = x[np.isfinite(x)]
    share = len(x) > 0 and float(((x >= 0) & (x <= 1)).mean()) >= INSIDE
    if said == {3} or hints.dims == 3:
        return 3, None
    if scored and coordinates == 3 and not share and hints.dims is None and said != {2}:
        return 3, None
    flat = said == {2} or hints.dims == 2 or coordinates == 2 or scored
    flat |= share and all(person.landmarks for person in everybody)
    return (2 if flat else None), ((1, 1) if flat and share else None)


def _by_name(person: Found, names: Sequence[str]) -> Found:
    """A person with the joints ``names``; those that it has not are not seen."""
    if not person.names:
        raise Unusable("other joints: some people have named joints, others not")
    joints = np.full((len(names), person.joints.shape[1]), np.nan)
    joints[[names.index(name) for name in person.names]] = person.joints
    return replace(person, joints=joints, names=tuple(names))


def frame_places(names: Sequence[Any]) -> list[int]:
    """The place of each frame in time, from the last number in its name; in their order where that says nothing."""
    found = [re.findall(r"\d+", re.sub(r"\.\w+$", "", str(name))) for name in names]
    order = range(len(names))
    if not all(found) or len({inside[-1].lstrip("0") for inside in found}) < len(names):
        return list(order)
    values = [int(inside[-1][:18]) for inside in found]
    step = math.gcd(*(value - min(values) for value in values)) or 1
    places = [(value - min(values)) // step for value in values]
    if max(places) >= SPARSE * len(names):
        rank = {value: place for place, value in enumerate(sorted(values))}
        return [rank[value] for value in values]
    return places


def _from_coco(content: Mapping[str, Any], hints: Hints) -> Recording:
    """A take of COCO's kind; visibility 0, 1 (marked, but hidden) and 2 become the scores 0, 0.5 and 1."""
    images = [image for image in content["images"] if isinstance(image, Mapping) and "id" in image]
    marked = [one for one in content["annotations"] if isinstance(one, Mapping) and one.get("keypoints")]
    if not images or not marked:
        raise Unusable(f"no poses: {len(images)} images, {len(marked)} annotations with keypoints")
    number = {str(image["id"]): image.get("file_name", image["id"]) for image in images}
    beside: dict[str, list[Any]] = {name: [] for name in number}
    for one in marked:
        keypoints = numbers(one["keypoints"])
        if keypoints.size % 3 or str(one.get("image_id")) not in beside:
            raise Unusable("damaged: an annotation without x, y, visibility of each joint, or of an unknown image")
        rows = keypoints.reshape(-1, 3) / ((1, 1, 2) if keypoints[2::3].max() > 1 else (1, 1, 1))
        track = {key: one[key] for key in ("track_id",) if key in one}
        beside[str(one["image_id"])].append({"pose_keypoints_2d": rows.ravel().tolist(), **track})
    names = _category_names(content)
    recording = _from_frames([(number[name], people) for name, people in beside.items()], replace(hints, dims=2), {})
    sizes = {(image.get("height"), image.get("width")) for image in images}
    height, width = next(iter(sizes)) if len(sizes) == 1 else (None, None)
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    fits = len(names) == recording.frames.shape[2]
    return replace(recording, size=size or recording.size, joint_names=names if fits else ())


def _category_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    categories: Iterable[Any] = content.get("categories") or ()
    known = [
        one["keypoints"] for one in categories if isinstance(one, Mapping) and isinstance(one.get("keypoints"), list)
    ]
    return tuple(map(str, known[0])) if known else ()


def _is_one_frame(source: Source) -> bool:
    content = parse(source.read())
    return not ("images" in content and "annotations" in content) and frames_of(content)[1]


def _recognises(name: str, start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


FORMS = (Form("JSON", _recognises, read, _is_one_frame, arrays=True),)

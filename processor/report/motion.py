"""A sequence as compact plain data, which ``templates/player.js`` shows as a moving skeleton.

Shapes: L frames, M people, V joints, P groups of joints; D = 2 or 3 coordinates (dims); C channels: x, y, z, or x, y,
score.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feeders.gaps import filled_joints
from feeders.store import DataError
from shapmix import SkeletonLayout

MOST_FRAMES = 120
FPS = 30.0  # frames a second, where nothing says otherwise: as a Kinect records
LEVELS = 4094  # steps between the smallest and the largest coordinate; 12 bits a number
ABSENT = 4095  # in the place of each coordinate of a person who is not there


def motion(
    frames: np.ndarray,
    layout: SkeletonLayout,
    dims: int = 3,
    *,
    name: str = "",
    notes: Sequence[str] = (),
    fps: float = FPS,
    most_frames: int = MOST_FRAMES,
    values: Sequence[float] | None = None,
    values_label: str = "contribution",
    value_range: tuple[float, float] | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    spans: Mapping[str, tuple[int, int]] | None = None,
    playing: bool = True,
    start: float = 0.0,
) -> dict[str, Any]:
    """What the player needs of one sequence, as JSON can hold it; :func:`in_script` writes it into a page.

    Joints that are not seen are put between their places before and after, and marked: the player dashes them. A
    coordinate is off by at most 1/8188 of the largest extent. 64 frames of 25 joints are about 11 KB.

    Args:
        frames: (L, M, V, C), as a store has them, or as (T, M, V, C) from a batch; NaN where a joint is not seen, a
            person of zeros or NaN is absent. Who is never there is left out. More channels are not shown.
        dims: 3: y up, x to the left, as a depth camera sees them; 2: x, y downwards as in an image, and a score, which
            may be absent.
        name, notes: the title, and lines under the picture; plain text, whatever is in it.
        fps: frames a second.
        most_frames: of a longer sequence every second, third ... frame is shown, so that no more are left; the player
            says so.
        values: (P,) a number for each group, by which the player colours it and which its legend shows.
        values_label: what these numbers are.
        value_range: of the colours, by default from 0, or the smallest value below it, to the largest.
        groups: name -> joints, where each joint is in one; by default the parts of the layout.
        spans: group -> (first frame, frame after the last) in which it has its own colour; at other times its joints
            have the colour of the first group. Groups that are not named always have their own.
        playing: does it begin to play by itself?
        start: the place at which it begins, 0 .. 1 of the sequence.

    Raises:
        DataError: frames that do not fit the layout, no frame, values or groups that do not fit.
    """
    groups = layout.parts if groups is None else groups
    _check(frames, layout, dims, name, groups, values)
    every = -(-len(frames) // most_frames)
    joints, missing = filled_joints(_with_score(np.asarray(frames[::every, ..., :3], np.float64)), layout, dims)
    ever = np.isfinite(joints).any(axis=(0, 2, 3))
    ever[0] |= not ever.any()
    joints, missing = joints[:, ever], missing[:, ever]
    low, step, codes = _quantised(joints)
    return {
        "name": name, "notes": [*notes], "layout": layout.name, "dims": dims, "fps": fps, "every": every,
        "length": len(frames), "shape": list(joints.shape), "low": low, "step": step, "codes": _packed(codes),
        "missing": base64.b64encode(np.packbits(missing).tobytes()).decode() if missing.any() else "",
        "bones": [list(edge) for edge in layout.edges], "joints": list(layout.joint_names),
        "groups": _groups(groups, values, spans or {}, every), "playing": playing and len(joints) > 1,
        "start": int(start * (len(joints) - 1)),
        "values": None if values is None else {"label": values_label, "range": _range(values, value_range)},
    }  # fmt: skip


def in_script(data: Any) -> str:
    """JSON that may stand in a page's ``<script type="application/json">``, whatever text is in it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _check(
    frames: np.ndarray,
    layout: SkeletonLayout,
    dims: int,
    name: str,
    groups: Mapping[str, Sequence[int]],
    values: Sequence[float] | None,
) -> None:
    if frames.ndim != 4 or frames.shape[2] != layout.num_joints or frames.shape[3] < dims:
        raise DataError(f"frames {frames.shape} are not (L, M, {layout.num_joints}, {dims}), as {layout.name} wants")
    if not frames.size:
        raise DataError(f"{name or 'a sequence'} has no frame")
    if sorted(joint for joints in groups.values() for joint in joints) != list(range(layout.num_joints)):
        raise DataError(f"groups of joints must name each of 0 .. {layout.num_joints - 1} once")
    if values is not None and len(values) != len(groups):
        raise DataError(f"{len(values)} values for {len(groups)} groups of joints")


def _with_score(joints: np.ndarray) -> np.ndarray:
    """(L, M, V, 2 or 3) -> (L, M, V, 3): x and y alone get a score, 1 where the person is."""
    if joints.shape[3] == 3:
        return joints
    there = (joints != 0).any(axis=(2, 3), keepdims=True)
    return np.concatenate([joints, np.broadcast_to(there, (*joints.shape[:3], 1))], axis=3)


def _quantised(joints: np.ndarray) -> tuple[list[float], float, np.ndarray]:
    """The smallest of each coordinate, the step, and whole numbers so that joint = smallest + number * step."""
    present = joints[np.isfinite(joints).all(axis=-1)]  # (n, D)
    low = present.min(axis=0) if len(present) else np.zeros(joints.shape[-1])
    extent = float((present.max(axis=0) - low).max()) if len(present) else 0.0
    step = extent / LEVELS if extent > 0 else 1.0
    codes = np.where(np.isfinite(joints), np.rint((joints - low) / step), ABSENT)
    return low.tolist(), step, codes.astype(np.uint16)


def _packed(codes: np.ndarray) -> str:
    """Numbers below 4096 as base64, two in three bytes."""
    flat = codes.ravel()
    pairs = np.pad(flat, (0, len(flat) % 2)).reshape(-1, 2)
    content = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    return base64.b64encode(content.astype(np.uint8).tobytes()).decode()


def _groups(
    groups: Mapping[str, Sequence[int]],
    values: Sequence[float] | None,
    spans: Mapping[str, tuple[int, int]],
    every: int,
) -> list[dict[str, Any]]:
    found = []
    for number, (name, joints) in enumerate(groups.items()):
        value = None if values is None or not np.isfinite(values[number]) else float(f"{values[number]:.4g}")
        first, last = spans.get(name, (None, None))
        span = None if first is None or last is None else [first / every, last / every]
        found.append({"name": name, "joints": [int(joint) for joint in joints], "value": value, "span": span})
    return found


def _range(values: Sequence[float], wanted: tuple[float, float] | None) -> list[float]:
    if wanted is not None:
        return [float(end) for end in wanted]
    known = [float(value) for value in values if np.isfinite(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    return [low, high] if high > low else [low, low + 1.0]

"""One ``.skeleton`` file of NTU RGB+D -> one sequence, as CTR-GCN prepares it (METHOD 10).

Shapes: L frames, B bodies, M = 2 actors, V = 25 joints, C = 3 coordinates (metres, camera coordinates).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .ntu import CLASSES, COLUMNS, LAYOUT, NAME, NTU60_SETUPS, parse_names
from .preparation import LeftOut, Source
from .store import DataError, Sample

NUM_ACTORS = 2
JOINTS = LAYOUT.num_joints
CENTRE = LAYOUT.joint("spine_mid")
JOINT_COLUMNS = 12  # x y z, depth and colour place, orientation, state
BODY_COLUMNS = 10
MAX_GHOST_FRAMES = 11  # a body that is seen no longer is a ghost, where there are others
MAX_WIDTH = 0.8  # of a frame, as a share of its height; wider ones are noise
MAX_NOISY_SHARE = 0.69754  # of a body's frames


class Unusable(DataError):
    """A sequence that cannot be used: ``kind`` is empty, damaged, no body or no actor."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")


@dataclass(eq=False)
class Body:
    """One tracked body: joints (L, V, C) of consecutive frames from ``start`` on, and how much it moves."""

    start: int
    joints: np.ndarray
    motion: float

    @property
    def end(self) -> int:
        """Its last frame."""
        return self.start + len(self.joints) - 1


def read_source(source: Source) -> Sample:
    """One raw file, prepared; what is wrong with it is the sample's ``problem``."""
    columns = {key: int(values[0]) for key, values in parse_names([source.name]).items()}
    label = columns["action"] - 1
    try:
        frames, actors = read_sequence(source.read())
    except DataError as error:
        nothing = np.zeros((0, NUM_ACTORS, JOINTS, 3), np.float32)
        return Sample(source.name, label, nothing, str(error), {**columns, "actors": 0})
    return Sample(source.name, label, frames, columns={**columns, "actors": actors})


def choose_sources(sources: Sequence[Source], dataset: str, missing: Collection[str]) -> tuple[list[Source], LeftOut]:
    """The raw files of ntu60 or ntu120, without those on the ``missing`` list, and what was left out."""
    left_out: LeftOut = {}
    chosen = []
    for source in sources:
        match = NAME.fullmatch(source.name)
        number = dict(zip(COLUMNS, map(int, match.groups()), strict=True)) if match else {}
        if not number:
            left_out.setdefault("bad name", {})[str(source)] = "not SsssCcccPpppRrrrAaaa"
        elif not 1 <= number["action"] <= len(CLASSES) or (dataset == "ntu60" and number["setup"] > NTU60_SETUPS):
            left_out.setdefault(f"not of {dataset}", {})[source.name] = "by its set-up or action number"
        elif source.name in missing:
            left_out.setdefault("on the missing list", {})[source.name] = "its skeletons are missing or wrong"
        else:
            chosen.append(source)
    return chosen, left_out


def read_sequence(text: bytes) -> tuple[np.ndarray, int]:
    """The whole preparation of one file.

    Returns:
        frames (L, M, V, C) float32, actor 1's first spine_mid at the origin, and the number of actors, 1 or 2. The
        second actor of a sequence with one is 0.

    Raises:
        Unusable: what is wrong, and in which line.
    """
    bodies, num_frames = parse(text)
    if not bodies:
        raise Unusable("no body", f"in none of {num_frames} frames")
    if len(bodies) == 1:
        return translate(_one_actor(bodies[0], num_frames)), 1
    bodies = denoise(bodies)
    if not bodies:
        raise Unusable("no actor", f"all bodies are seen in {MAX_GHOST_FRAMES} frames or fewer")
    joints = _one_actor(bodies[0], num_frames) if len(bodies) == 1 else two_actors(bodies, num_frames)
    joints = joints[joints.reshape(num_frames, -1).sum(axis=1) != 0]
    return translate(joints), min(len(bodies), NUM_ACTORS)


def parse(text: bytes) -> tuple[list[Body], int]:
    """Bodies in the order in which they appear, and the number of frames that have any. LF or CRLF.

    Raises:
        Unusable: the text is empty, no skeleton file, cut off, or its counts contradict its lines.
    """
    if not text.strip():
        raise Unusable("empty", f"{len(text)} bytes")
    lines = text.rstrip().splitlines()
    place, valid = 0, 0

    def number(what: str) -> int:
        nonlocal place
        if place >= len(lines):
            raise Unusable("damaged", f"the file ends after line {place}, where {what} should follow; it was cut off")
        word = lines[place].strip()
        place += 1
        if not word.isdigit():
            raise Unusable("damaged", f"line {place}: expected {what}, found {word[:40]!r}; is a body count wrong?")
        return int(word)

    starts: dict[bytes, int] = {}
    rows: dict[bytes, list[bytes]] = {}
    frames = number("the number of frames")
    for frame in range(frames):
        count = number(f"the number of bodies of frame {frame}")
        seen: set[bytes] = set()
        for _ in range(count):
            words = lines[place].split() if place < len(lines) else []
            if place < len(lines) and len(words) != BODY_COLUMNS:
                raise Unusable(
                    "damaged",
                    f"line {place + 1}: expected a body of frame {frame} ({BODY_COLUMNS} columns, {count} bodies "
                    f"announced), found {lines[place][:40]!r}",
                )
            place += 1
            joints = number(f"the number of joints of frame {frame}")
            if joints != JOINTS:
                raise Unusable("damaged", f"line {place}: {joints} joints, wanted {JOINTS}")
            body = words[0]  # a string: the numbers are too large for a float
            if body in seen:
                raise Unusable(
                    "damaged", f"line {place - 1}: body {body.decode('ascii', 'replace')} is twice in frame {frame}"
                )
            seen.add(body)
            starts.setdefault(body, valid)
            rows.setdefault(body, []).extend(lines[place : place + JOINTS])
            if place + JOINTS > len(lines):
                raise Unusable("damaged", f"the file ends in frame {frame} of {frames}; it was cut off")
            _check_columns(lines, place)
            place += JOINTS
        valid += count > 0
    if place < len(lines):
        raise Unusable("damaged", f"line {place + 1}: text after the last of {frames} frames: {lines[place][:40]!r}")
    return [_body(starts[body], rows[body]) for body in rows], valid


def _check_columns(lines: list[bytes], place: int) -> None:
    for number, line in enumerate(lines[place : place + JOINTS], place + 1):
        if line.count(b" ") != JOINT_COLUMNS - 1 and len(line.split()) != JOINT_COLUMNS:
            raise Unusable("damaged", f"line {number}: a joint has {len(line.split())} columns, wanted {JOINT_COLUMNS}")


def _body(start: int, rows: list[bytes]) -> Body:
    try:
        joints = np.loadtxt(rows, dtype=np.float32, usecols=(0, 1, 2), comments=None, ndmin=2).reshape(-1, JOINTS, 3)
    except ValueError as error:
        raise Unusable("damaged", f"coordinates that are no numbers: {error}") from error
    if not np.isfinite(joints).all():
        raise Unusable("damaged", "NaN or infinite coordinates")
    return Body(start, joints, _motion(joints))


def _motion(joints: np.ndarray) -> float:
    """Variance of x, y and z over all frames and joints (L, V, C), summed."""
    return float(joints.reshape(-1, 3).var(axis=0).sum())


def denoise(bodies: list[Body]) -> list[Body]:
    """What remains of several bodies, by falling motion: ghosts go, then those too wide for their height."""
    bodies = [body for body in bodies if len(body.joints) > MAX_GHOST_FRAMES]
    for body in list(bodies):
        if len(bodies) == 1:
            break
        x, y = np.ptp(body.joints[..., 0], axis=1), np.ptp(body.joints[..., 1], axis=1)
        noisy = x > MAX_WIDTH * y
        if noisy.mean() >= MAX_NOISY_SHARE:
            bodies.remove(body)
        elif noisy.any():
            body.motion = min(body.motion, _motion(body.joints[~noisy]))
    return sorted(bodies, key=lambda body: -body.motion)


def _one_actor(body: Body, num_frames: int) -> np.ndarray:
    """(L, 1, V, C) with zeros where the body is not seen."""
    joints = np.zeros((num_frames, 1, JOINTS, 3), np.float32)
    joints[body.start : body.end + 1, 0] = body.joints
    return joints


def two_actors(bodies: list[Body], num_frames: int) -> np.ndarray:
    """(L, 2, V, C): each body joins actor 1 where it does not overlap in time, else actor 2, else it is dropped."""
    joints = np.zeros((num_frames, NUM_ACTORS, JOINTS, 3), np.float32)
    first, *others = bodies
    joints[first.start : first.end + 1, 0] = first.joints
    intervals = [(first.start, first.end), (0, 0)]
    for body in others:
        for actor, (start, end) in enumerate(intervals):
            if min(end, body.end) - max(start, body.start) <= 0:
                joints[body.start : body.end + 1, actor] = body.joints
                intervals[actor] = min(start, body.start), max(end, body.end)
                break
    return joints


def translate(joints: np.ndarray) -> np.ndarray:
    """(L, 1 or 2, V, C) -> (L, 2, V, C) with actor 1's first spine_mid at the origin; an absent second actor is 0."""
    actors = joints.shape[1]
    there = joints[:, 0].any(axis=(1, 2))
    if not there.any():
        raise Unusable("no actor", "all coordinates are 0")
    moved = joints - joints[there.argmax(), 0, CENTRE]
    if actors == NUM_ACTORS:
        moved[joints.sum(axis=(2, 3)) == 0] = 0
        return moved
    return np.concatenate([moved, np.zeros_like(moved)], axis=1)
